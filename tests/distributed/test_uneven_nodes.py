"""Machines of unequally many processes train, but are no nodes to a plan."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Storage, Strategy
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.job import job_over
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.planning.place import _check_no_nodes
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")


def nodes_of(group: dist.ProcessGroup, sizes: list[int]) -> tuple[int, bool]:
    """Tell each process that its machine has so many."""
    rank, size = group.rank(), sizes[group.rank()]
    context = ProcessContext(rank, rank % size, group.size(), size)
    job = job_over(group, context)
    return job.ranks_per_node, job.nodes_are_even


@pytest.mark.parametrize(
    ("sizes", "seen"),
    [([2, 2], (2, True)), ([1, 1], (1, True)), ([2, 1], (1, False))],
)
def test_a_job_learns_of_its_nodes(
    two_ranks: Ranks, sizes: list[int], seen: tuple[int, bool]
):
    assert two_ranks.run(nodes_of, sizes) == [seen, seen]


def plan_of(strategy: Strategy) -> Plan:
    part = Part(rank=0, first_row=0, num_rows=4, first_column=0, num_columns=4)
    table = TablePlan(strategy=strategy, storage=Storage.fused, parts=(part,))
    return Plan(world_size=3, ranks_per_node=1, tables={"item": table})


def test_strategies_over_nodes_are_refused_by_name():
    _check_no_nodes(plan_of(Strategy.row_wise))
    with pytest.raises(ConfigError, match="'item' under table_row_wise needs nodes of"):
        _check_no_nodes(plan_of(Strategy.table_row_wise))
