"""What a strategy cannot do exactly is refused by name, before anything starts."""

from __future__ import annotations

import dataclasses

import pytest
import torch.distributed as dist
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.sharded.placement import BY_COLUMNS
from dlrm.embeddings.sharded.refusals import refuse_options
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.tables import table_configs
from tests.embeddings.sharded.cases import Case, place
from tests.embeddings.sharded.jobs import CPU
from tests.embeddings.sharded.matrix import OPTIONS, Option, refused
from tests.embeddings.sharded.ranks import Ranks

REFUSED = [
    (option, strategy)
    for option in OPTIONS
    for strategy in Strategy
    if refused(option, strategy) is not None
]


def refuse(case: Case, strategy: Strategy, *, exact: bool = True) -> None:
    for configs in table_configs(case.schema).values():
        for config in configs:
            if config.name == "a":
                refuse_options(config, strategy, optimizer=case.optimizer, exact=exact)


@pytest.mark.parametrize(
    ("option", "strategy"),
    [pytest.param(o, s, id=f"{o.name}-{s.value}") for o, s in REFUSED],
)
def test_option_is_refused_by_name(option: Option, strategy: Strategy):
    with pytest.raises(ConfigError) as caught:
        refuse(option.case, strategy)
    why = refused(option, strategy)
    assert why is not None
    assert str(caught.value).startswith("Table 'a' with ")
    assert str(caught.value).endswith(why)


def test_the_message_holds_the_value_the_reason_and_the_remedy():
    case = Case(options=TableOptions(max_norm=0.8))
    with pytest.raises(ConfigError) as caught:
        refuse(case, Strategy.column_wise)
    assert str(caught.value) == (
        "Table 'a' with max_norm=0.8: max_norm does not go with column_wise: a row's "
        "norm takes all columns of a row, which lie on different processes. Instead, "
        "use table_wise, row_wise, table_row_wise or data_parallel."
    )


@pytest.mark.parametrize("strategy", sorted(BY_COLUMNS, key=lambda s: s.value))
def test_one_state_a_range_of_columns_is_allowed_where_nothing_must_be_exact(
    strategy: Strategy,
):
    case = Case(optimizer=SparseOptimizer(name=SparseOptimizerName.rowwise_adagrad))
    with pytest.raises(ConfigError, match="or sharding.exact=false, which treats"):
        refuse(case, strategy)
    refuse(case, strategy, exact=False)
    limited = dataclasses.replace(case, options=TableOptions(max_norm=0.8))
    with pytest.raises(ConfigError, match="max_norm does not go with"):
        refuse(limited, strategy, exact=False)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_what_is_not_in_the_table_is_not_refused(option: Option):
    for strategy in Strategy:
        if refused(option, strategy) is None:
            refuse(option.case, strategy)


def shard_with_max_norm(group: dist.ProcessGroup, case: Case) -> list[str]:
    model = nn.ModuleDict({"embeddings": FeatureEmbeddings(case.schema)})
    with pytest.raises(ConfigError, match="max_norm does not go with column_wise"):
        to_sharded(
            model,
            plan=place(model, {"a": Strategy.column_wise}, group.size()),
            optimizer=case.optimizer,
            group=group,
            device=CPU,
        )
    return [type(m).__name__ for m in model["embeddings"].collections.values()]


def test_a_refused_model_is_left_as_it_was(two_ranks: Ranks):
    case = next(option.case for option in OPTIONS if option.name == "max_norm")
    for kinds in two_ranks.run(shard_with_max_norm, case):
        assert kinds == ["EmbeddingBagCollection"]
