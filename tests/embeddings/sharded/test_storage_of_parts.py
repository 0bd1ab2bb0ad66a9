"""A part of a table lies in the memory that its plan says."""

from __future__ import annotations

import dataclasses

import pytest
import torch.distributed as dist
from torch import nn

from dlrm.config.sharding import Storage, Strategy
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.state import table_parts
from tests.embeddings.oracle import FUSED
from tests.embeddings.sharded.cases import Case, place
from tests.embeddings.sharded.jobs import CPU
from tests.embeddings.sharded.ranks import RankError, Ranks

pytestmark = pytest.mark.xdist_group("ranks")


def kernels(
    group: dist.ProcessGroup, storage: Storage, options: TableOptions
) -> dict[str, str]:
    """Return the kernel of each part of this rank, by table."""
    case = Case(options=options)
    model = nn.ModuleDict({"embeddings": FeatureEmbeddings(case.schema)})
    plan = place(model, {}, group.size(), default=Strategy.row_wise)
    tables = {
        name: dataclasses.replace(table, storage=storage) if name == "a" else table
        for name, table in plan.tables.items()
    }
    to_sharded(
        model,
        plan=dataclasses.replace(plan, tables=tables),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
    )
    return {part.table: type(part.bags).__name__ for part in table_parts(model)}


@pytest.mark.parametrize("options", [TableOptions(), TableOptions(padding_idx=0)])
def test_dense_parts_are_torchs(options: TableOptions, two_ranks: Ranks):
    for found in two_ranks.run(kernels, Storage.dense, options):
        assert found == {"a": "TorchBags", "c": FUSED, "d": FUSED}


@pytest.mark.parametrize("storage", [Storage.fused_uvm_caching, Storage.key_value])
def test_memory_that_cannot_be_had_is_refused(storage: Storage, two_ranks: Ranks):
    wanted = f"Table 'a' cannot have storage={storage.value}"
    with pytest.raises(RankError, match=wanted):
        two_ranks.run(kernels, storage, TableOptions())
