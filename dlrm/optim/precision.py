"""The precision of matrix products in a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from dlrm.config.trainer import Precision


@contextmanager
def products_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let float32 matrix products take factors rounded to ``precision``.

    torch's setting holds for the whole process; what stood before comes back, so that
    an evaluation between two steps is computed as it will be of the finished run. On a
    GPU bfloat16 is autocast's, and what it leaves in float32 has TensorFloat-32.
    """
    name = "highest"
    if precision is not Precision.fp32:
        whole = precision is Precision.bf16 and device.type == "cpu"
        name = "medium" if whole else "high"
    before = torch.get_float32_matmul_precision()
    if name == before:
        yield
        return
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def lower_forward(
    precision: Precision, device: torch.device
) -> AbstractContextManager[object]:
    """Return the context of forward pass and loss: autocast for bfloat16 on a GPU."""
    if precision is Precision.bf16 and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
