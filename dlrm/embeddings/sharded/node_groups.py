"""The processes of one node, and those of one place in all nodes, as groups."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TypeAlias

import torch
import torch.distributed as dist
from torchrec.distributed.sharding import grid_sharding, twrw_sharding

_Pair: TypeAlias = tuple[dist.ProcessGroup, dist.ProcessGroup]


@contextlib.contextmanager
def exchanging_over_nodes(
    group: dist.ProcessGroup, ranks_per_node: int
) -> Iterator[None]:
    """Give torchrec the nodes of ``group`` for what it builds in the ``with``.

    torchrec itself asks the environment for the size of a node, once in the life of a
    process, and groups all processes there are.
    """

    def pair(*args: object, **kwargs: object) -> _Pair:
        return node_groups(group, ranks_per_node)

    modules = (twrw_sharding, grid_sharding)
    before = [module.intra_and_cross_node_pg for module in modules]
    for module in modules:
        module.intra_and_cross_node_pg = pair
    try:
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            module.intra_and_cross_node_pg = function


# A group has sockets and threads of its own: one of a kind serves all models.
@functools.cache
def node_groups(group: dist.ProcessGroup, ranks_per_node: int) -> _Pair:
    """Return the group of this process's node, and that of its place in all nodes.

    All processes of ``group`` call this.

    Args:
        group: Whose first ``ranks_per_node`` processes are the first node's, and so on.
        ranks_per_node: A divisor of the number of processes.
    """
    size, own = group.size(), group.rank()
    first, place = own - own % ranks_per_node, own % ranks_per_node
    return (
        _among(group, range(first, first + ranks_per_node)),
        _among(group, range(place, size, ranks_per_node)),
    )


def _among(group: dist.ProcessGroup, ranks: range) -> dist.ProcessGroup:
    transport = dist.get_backend(group)
    device = torch.device("cuda" if transport == "nccl" else "cpu")
    found = dist.new_group(
        [dist.get_global_rank(group, rank) for rank in ranks],
        timeout=group._get_backend(device).options._timeout,
        backend=transport,
        # The other processes have groups of their own to make.
        use_local_synchronization=True,
    )
    assert isinstance(found, dist.ProcessGroup)
    return found
