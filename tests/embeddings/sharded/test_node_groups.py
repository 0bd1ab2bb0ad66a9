"""Each process knows those of its node, and those of its place in all nodes."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from dlrm.embeddings.sharded.node_groups import node_groups
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")


def sums(group: dist.ProcessGroup, ranks_per_node: int) -> list[float]:
    found = []
    for among in node_groups(group, ranks_per_node):
        total = torch.tensor(10.0 ** group.rank())
        dist.all_reduce(total, group=among)
        found.append(float(total))
    assert node_groups(group, ranks_per_node) is node_groups(group, ranks_per_node)
    return found


def timeouts(group: dist.ProcessGroup) -> list[object]:
    groups = [group, *node_groups(group, 2)]
    cpu = torch.device("cpu")
    return [among._get_backend(cpu).options._timeout for among in groups]


def test_a_node_is_a_run_of_ranks_and_a_place_has_one_rank_a_node(four_ranks: Ranks):
    assert four_ranks.run(sums, 2) == [[11, 101], [11, 1010], [1100, 101], [1100, 1010]]
    assert four_ranks.run(sums, 4) == [[1111, 10.0**rank] for rank in range(4)]
    assert four_ranks.run(sums, 1) == [[10.0**rank, 1111] for rank in range(4)]


def test_a_nodes_group_waits_as_long_as_the_whole(four_ranks: Ranks):
    for whole, node, place in four_ranks.run(timeouts):
        assert whole == node == place
