"""Ranks start from an old run and from vectors as one process does, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist

from dlrm.checkpoints.load import load_checkpoint
from dlrm.checkpoints.rotation import list_checkpoints
from dlrm.checkpoints.save import save_checkpoint
from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.errors import DataError, UserError
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.data.transforms.vocabulary import table_row_keys
from dlrm.distributed.job import job_over
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_parts, table_states
from dlrm.models import build_model, model_config
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from dlrm.run import Run, open_run
from dlrm.table_vectors import load_table
from dlrm.warm_start.start import start_values
from tests.embeddings.sharded.cases import place
from tests.embeddings.sharded.ranks import Ranks
from tests.warm_start.growing import item_rows, rows_of, trainer_of, write_preset
from tests.warm_start.test_growth import GROWN, OLD, trained

pytestmark = pytest.mark.xdist_group("ranks")
CPU = torch.device("cpu")
Found = dict[str, dict[str, np.ndarray]]


@pytest.fixture(autouse=True)
def _preset(workdir: Path) -> None:
    write_preset(workdir)


class Starting:
    """A run's model over ranks, or on one process, with its dense optimizer."""

    def __init__(
        self,
        folder: str,
        group: dist.ProcessGroup | None,
        default: Strategy = Strategy.row_wise,
    ) -> None:
        self.run, self.group = open_run(Path(folder)), group
        config = self.run.config
        torch.manual_seed(0)
        self.model = build_model(model_config(config.model), self.run.schema)
        common = {
            "optimizer": config.optimizer.sparse,
            "device": CPU,
            "initial": InitialValues(
                seed=5,
                default=EmbeddingInit(name=InitName.normal, scale=0.5),
                row_keys=lambda table: table_row_keys(
                    self.run.folder, self.run.schema, table
                ),
            ),
        }
        if group is None:
            to_local(self.model, **common)
        else:
            plan = place(self.model, {}, group.size(), default)
            inexact = ShardingConfig(exact=False)
            to_sharded(self.model, plan=plan, group=group, sharding=inexact, **common)
        self.optimizer = build_dense_optimizer(
            dense_parameters(self.model), config.optimizer.dense
        )

    def tables(self) -> Found:
        if self.group is None:
            wholes = {n: p.columns for n, p in table_states(self.model).items()}
        else:
            gathered = gather_tables(self.model, self.group).items()
            wholes = {name: whole.columns for name, whole in gathered}
        return {
            table: {name: values.numpy().copy() for name, values in columns.items()}
            for table, columns in wholes.items()
        }


def start(
    group: dist.ProcessGroup | None, folder: str, default: Strategy = Strategy.row_wise
) -> tuple[Found, list[np.ndarray], list[str]]:
    """Return the tables, the dense parameters and the lines of a start."""
    starting = Starting(folder, group, default)
    lines: list[str] = []
    common = {} if group is None else {"job": job_over(group)}
    start_values(
        starting.run, starting.model, starting.optimizer, report=lines.append, **common
    )
    dense = [p.detach().numpy().copy() for p in dense_parameters(starting.model)]
    return starting.tables(), dense, lines


def new_run(name: str, *extra: str) -> Run:
    trainer, _ = trainer_of(rows_of(GROWN, seed=1), name, *extra)
    return trainer.run


def vectors_file(path: Path) -> str:
    random = np.random.default_rng(3)
    keys = ["new1", "old3", "new7", "nowhere"]
    vectors = random.normal(size=(4, 4)).astype(np.float32).tolist()
    pd.DataFrame({"key": keys, "vector": vectors}).to_parquet(path)
    return str(path)


@pytest.mark.parametrize(
    ("sparse", "strategy"),
    [
        ("rowwise_adagrad", Strategy.row_wise),
        pytest.param("adam", Strategy.column_wise, marks=pytest.mark.slow),
        pytest.param("adagrad", Strategy.data_parallel, marks=pytest.mark.slow),
        pytest.param("adagrad", Strategy.table_wise, marks=pytest.mark.slow),
    ],
)
def test_ranks_take_over_rows_state_and_vectors_as_one_process_does(
    sparse: str, strategy: Strategy, tmp_path: Path, two_ranks: Ranks
):
    extra = (
        f"optimizer.sparse.name={sparse}", "tables.item.admit_after=3",
        "tables.item.padding_idx=-2",
    )  # fmt: skip
    trained(OLD, "old", *extra)
    path = vectors_file(tmp_path / "vectors.parquet")
    given = (
        f"init_from={tmp_path}/outputs/old", f"tables.item.pretrained.path={path}",
    )  # fmt: skip
    alone, shared = (new_run(name, *extra, *given) for name in ("alone", "shared"))
    tables, dense, lines = start(None, str(alone.folder))
    assert len(lines) > 2
    for rank, found in enumerate(
        two_ranks.run(start, str(shared.folder.resolve()), strategy)
    ):
        assert found[0].keys() == tables.keys()
        for table, columns in tables.items():
            for name, values in columns.items():
                np.testing.assert_array_equal(found[0][table][name], values)
        for own, expected in zip(found[1], dense, strict=True):
            np.testing.assert_array_equal(own, expected)
        assert sorted(found[2]) == (sorted(lines) if rank == 0 else [])
    for entry in ("pretrained", "init_from"):
        assert shared.manifest()[entry] == alone.manifest()[entry]


def save_inexactly(
    group: dist.ProcessGroup, folder: str, root: str, given: str
) -> None:
    """Write a checkpoint whose ranges of columns have other state than each other."""
    starting = Starting(folder, group, Strategy.column_wise)
    job = job_over(group)
    common = {"model": starting.model, "dense_optimizer": starting.optimizer}
    load_checkpoint(Path(given), **common, job=job, report=lambda line: None)
    for part in table_parts(starting.model):
        part.columns["sum"].mul_(1 + 2 * group.rank())
    save_checkpoint(Path(root), step=9, **common, state={}, job=job)


def test_state_of_ranges_of_columns_is_taken_over_as_its_mean(two_ranks: Ranks):
    old = trained(OLD, "old")
    root = old.run.checkpoints.resolve()
    last = list_checkpoints(root)[-1]
    two_ranks.run(save_inexactly, str(old.run.folder.resolve()), str(root), str(last))
    extra = ("init_from=outputs/old", "init_from_checkpoint=step_000000009")
    new = new_run("new", *extra)
    tables, _, lines = start(None, str(new.folder))
    assert any(
        "item: 11 of 21 rows mapped with optimizer state (sum of columns 0-1, 2-3 "
        "became that of 0-3, by mean over the columns); 10 new" in line
        for line in lines
    )
    was, now = item_rows(old.run), item_rows(new)
    inexact, exact = (
        load_table(old.run, "item", checkpoint=folder)
        for folder in (root / "step_000000009", last)
    )
    np.testing.assert_array_equal(inexact.vectors, exact.vectors)
    np.testing.assert_array_equal(inexact.untrained, exact.untrained)
    sums = table_states(old.learner.model)["item"].optimizer["sum"]
    for key, row in was.items():
        # Both ranges of two columns held the old state, times 1 and times 3.
        expected = 2 * float(sums[row])
        assert tables["item"]["sum"][now[key]] == pytest.approx(expected, rel=1e-6)


def refused_start(group: dist.ProcessGroup, folder: str) -> str:
    with pytest.raises(UserError) as refused:
        start(group, folder, Strategy.table_wise)
    assert isinstance(refused.value, DataError)
    return str(refused.value)


def test_vectors_that_do_not_fit_one_ranks_table_stop_every_rank(
    tmp_path: Path, two_ranks: Ranks
):
    path = tmp_path / "vectors.npy"
    np.save(path, np.full((21, 4), 1e6, dtype=np.float32))
    run = new_run(
        "new", f"tables.item.pretrained.path={path}", "tables.item.dtype=float16"
    )
    first, second = two_ranks.run(refused_start, str(run.folder.resolve()))
    assert first == second
    assert "must hold numbers that fit the table's torch.float16" in first
