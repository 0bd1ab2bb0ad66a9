"""The group of processes that one job's collectives run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from dlrm.distributed.context import ProcessContext

# Long enough for a slow disk, short enough that a lost process is soon noticed.
_TIMEOUT_SECONDS = 600.0


@contextmanager
def process_group(
    context: ProcessContext,
    *,
    device: torch.device,
    init_method: str = "env://",
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> Iterator[dist.ProcessGroup]:
    """Join the job's processes for the body of a ``with``.

    Args:
        context: Who this process is.
        device: Decides the transport: NCCL between GPUs, gloo between CPUs.
        init_method: Where the processes meet; ``env://`` reads torchrun's variables.
        timeout_seconds: After which a collective that some process never enters fails.
    """
    dist.init_process_group(
        backend="nccl" if device.type == "cuda" else "gloo",
        init_method=init_method,
        rank=context.rank,
        world_size=context.world_size,
        timeout=timedelta(seconds=timeout_seconds),
    )
    try:
        assert dist.group.WORLD is not None
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()
