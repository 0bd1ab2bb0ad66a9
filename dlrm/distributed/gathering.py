"""Gather tensors whose length differs from process to process.

Shape suffix: N = a process's own length.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def gather_sizes(sizes: list[int], group: dist.ProcessGroup) -> list[list[int]]:
    """Return every process's ``sizes``, in order of rank; all give as many.

    They travel as CPU numbers under gloo and through the GPU under NCCL.
    """
    own = torch.tensor(sizes, dtype=torch.int64, device=_transport_device(group))
    parts = [torch.empty_like(own) for _ in range(group.size())]
    dist.all_gather(parts, own, group=group)
    return [part.tolist() for part in parts]


def gather_ragged(
    values: torch.Tensor, lengths: list[int], group: dist.ProcessGroup
) -> list[torch.Tensor]:
    """Return every process's one-dimensional ``values``, in order of rank.

    Gloo gathers equal shapes alone: the shorter ones travel padded.

    Args:
        values: [N].
        lengths: Each process's N, as ``gather_sizes`` tells it.
        group: The processes.
    """
    longest = max(lengths)
    padded = values.new_zeros(longest)
    padded[: values.numel()] = values
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded, group=group)
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]


def _transport_device(group: dist.ProcessGroup) -> torch.device:
    on_gpu = dist.get_backend(group) == "nccl"
    return torch.device("cuda" if on_gpu else "cpu")
