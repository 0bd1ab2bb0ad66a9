"""Tensors of different lengths, gathered over processes."""

from __future__ import annotations

import torch
import torch.distributed as dist

from dlrm.distributed.gathering import gather_ragged, gather_sizes
from tests.embeddings.sharded.ranks import Ranks


def gather(group: dist.ProcessGroup, counts: list[int]) -> list[list[float]]:
    own = torch.arange(counts[group.rank()], dtype=torch.float32) + 10 * group.rank()
    lengths = [count for (count,) in gather_sizes([own.numel()], group)]
    return [part.tolist() for part in gather_ragged(own, lengths, group)]


def test_every_rank_gets_the_values_of_all_ranks(two_ranks: Ranks):
    for counts, expected in (
        ([2, 3], [[0.0, 1.0], [10.0, 11.0, 12.0]]),
        ([0, 1], [[], [10.0]]),
        ([0, 0], [[], []]),
    ):
        assert two_ranks.run(gather, counts) == [expected, expected]


def test_one_rank_gets_its_own(one_rank: Ranks):
    assert one_rank.run(gather, [2]) == [[[0.0, 1.0]]]
