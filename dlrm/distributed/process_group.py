"""The group of processes that one job's collectives run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from dlrm.distributed.context import ProcessContext
from dlrm.distributed.meeting import meet

# Long enough for a slow disk, short enough that a lost process is soon noticed.
_TIMEOUT_SECONDS = 600.0


@contextmanager
def process_group(
    context: ProcessContext,
    *,
    device: torch.device,
    init_method: str | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> Iterator[dist.ProcessGroup]:
    """Join the job's processes for the body of a ``with``.

    Args:
        context: Who this process is.
        device: Decides the transport: NCCL between GPUs, gloo between CPUs.
        init_method: Where the processes meet; the launcher's place where not given.
        timeout_seconds: After which a collective that some process never enters fails.
    """
    timeout = timedelta(seconds=timeout_seconds)
    rank, world_size = context.rank, context.world_size
    place = rendezvous(
        init_method or context.init_method, rank, world_size, timeout=timeout
    )
    store: Store = next(place)[0]
    store.set_timeout(timeout)
    dist.init_process_group(
        backend="nccl" if device.type == "cuda" else "gloo",
        store=meet(store, rank=rank, world_size=world_size, timeout=timeout),
        rank=rank,
        world_size=world_size,
        timeout=timeout,
    )
    try:
        assert dist.group.WORLD is not None
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


def default_store() -> Store:
    """Return the store through which the processes of the group met."""
    return dist.distributed_c10d._get_default_store()
