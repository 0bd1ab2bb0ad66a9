"""What ranks, and one process, do with a checkpoint of a small model.

Files are cut so small that the parts of a table on several ranks and the rows of its
files overlap in every way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from dlrm.averaging import WeightAverage
from dlrm.checkpoints import blocks
from dlrm.checkpoints.files import read_table
from dlrm.checkpoints.load import load_checkpoint
from dlrm.checkpoints.save import save_checkpoint
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.distributed.job import ALONE, Job, job_over
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_states
from tests.embeddings.sharded.cases import Case, initial_values, place
from tests.embeddings.sharded.jobs import CPU, batch_of

BYTES_PER_FILE = 130
Tables = dict[str, dict[str, np.ndarray]]
_jobs: dict[int, tuple[dist.ProcessGroup, Job]] = {}


@dataclass(frozen=True)
class Layout:
    """How the tables lie: on one process, or on ranks under some strategies."""

    chosen: dict[str, Strategy] = field(default_factory=dict)
    exact: bool = True
    ranges: dict[str, int] = field(default_factory=dict)
    """Ranges of columns by table, where not one a rank."""


def job_of(group: dist.ProcessGroup | None) -> Job:
    """Return the job over a group; the same at each call."""
    if group is None:
        return ALONE
    known = _jobs.get(id(group))
    if known is None:
        known = _jobs[id(group)] = (group, job_over(group))
    return known[1]


class Trainee:
    """A model of a few tables and some dense layers, with what trains it."""

    def __init__(
        self,
        case: Case,
        layout: Layout,
        group: dist.ProcessGroup | None,
        *,
        decay: float | None = None,
        trainable: bool = True,
    ) -> None:
        torch.manual_seed(0)
        embeddings = FeatureEmbeddings(case.schema)
        top = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.model = nn.ModuleDict({"embeddings": embeddings, "top": top})
        self.case, self.group, self.job = case, group, job_of(group)
        common: dict[str, Any] = {
            "optimizer": case.optimizer,
            "device": CPU,
            "initial": initial_values(),
            "trainable": trainable,
        }
        if group is None:
            to_local(self.model, **common)
        else:
            plan = place(self.model, layout.chosen, group.size(), **layout.ranges)
            sharding = ShardingConfig(exact=layout.exact)
            to_sharded(self.model, plan=plan, group=group, sharding=sharding, **common)
        self.optimizer = torch.optim.Adam(top.parameters(), lr=0.1)
        self.average: WeightAverage | None = None
        if decay is not None:
            self.average = WeightAverage(self.model, decay, self.job)
        self.lines: list[str] = []

    def train(self, number: int) -> None:
        torch.manual_seed(number)
        batch, target, real = batch_of(self.case, number, self.group)
        vectors = torch.cat(self.model["embeddings"](batch), dim=1)
        loss = 0.5 * ((vectors - target)[real] ** 2).sum() * self.job.world_size
        loss.backward()
        # Equal on all ranks, as their mean is.
        self.optimizer.zero_grad()
        given = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))
        self.model["top"](given).square().sum().backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update(number)

    def save(self, root: str | Path, number: int) -> Path:
        averaged = self.average
        held = contextlib.nullcontext() if averaged is None else averaged.in_use()
        with held, small_files():
            return save_checkpoint(
                Path(root),
                step=number,
                model=self.model,
                dense_optimizer=self.optimizer,
                state={"epoch": 0},
                training=None if averaged is None else averaged.values,
                job=self.job,
            )

    def load(self, folder: str | Path, *, weights_only: bool = False) -> None:
        load_checkpoint(
            Path(folder),
            model=self.model,
            dense_optimizer=None if weights_only else self.optimizer,
            training=None if self.average is None else self.average.values,
            job=self.job,
            report=self.lines.append,
        )
        if self.average is not None:
            self.average.exchange()

    def tables(self) -> Tables:
        """Return every table, gathered without any checkpoint."""
        if self.group is None:
            return {
                name: {n: _array(t) for n, t in part.columns.items()}
                for name, part in table_states(self.model).items()
            }
        return {
            name: {n: _array(t) for n, t in whole.columns.items()}
            for name, whole in gather_tables(self.model, self.group).items()
        }


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    usual, blocks.MAX_FILE_BYTES = blocks.MAX_FILE_BYTES, BYTES_PER_FILE
    try:
        yield
    finally:
        blocks.MAX_FILE_BYTES = usual


def stored_tables(folder: Path, tables: list[str]) -> Tables:
    """Return tables as the files hold them."""
    found: Tables = {}
    for table in tables:
        parts = list(read_table(folder, table))
        assert len(parts) > 1 or parts[0].stop * 4 < BYTES_PER_FILE
        found[table] = {
            name: np.concatenate([_array(part.columns[name]) for part in parts])
            for name in parts[0].columns
        }
    return found


def _array(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.float().numpy().copy()
    return array


@dataclass
class Passed:
    """What one rank, or one process, tells of a stage."""

    loaded: Tables
    trained: Tables
    lines: list[str]


def stage(
    group: dist.ProcessGroup | None,
    case: Case,
    layout: Layout,
    number: int,
    roots: dict[str, str],
    decay: float | None = None,
) -> Passed:
    """Load a checkpoint, save it as it is, take a step, and save that."""
    trainee = Trainee(case, layout, group, decay=decay)
    if "given" in roots:
        trainee.load(roots["given"])
        loaded = trainee.tables()
        trainee.save(roots["again"], number - 1)
    else:
        loaded = {}
    trainee.train(number)
    trainee.save(roots["trained"], number)
    return Passed(loaded, trainee.tables(), trainee.lines)
