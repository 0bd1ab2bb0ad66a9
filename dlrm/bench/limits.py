"""What this machine can do at a model's own sizes: products, random rows, copies.

Each is timed alone, with the threads that training has, into memory that is there
already, until a few hundred milliseconds are spent; the fastest quarter's slowest run
counts, as a limit should.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from dlrm.config.trainer import Precision

_SECONDS = 0.25
"""Spent on each operation."""
_ROWS = 1 << 18
"""Random rows a call."""
_TABLE_BYTES = 2 << 30
_COPY_BYTES = 256 << 20
_SQUARE = 2048
"""Side of the matrices whose product is the highest rate shown."""


def measure_limits(
    gemms: Sequence[tuple[int, int, int, bool]],
    *,
    width: int,
    num_rows: int,
    device: torch.device,
    precision: Precision = Precision.fp32,
) -> dict[str, Any]:
    """Time every product and random rows of the largest table, one after another.

    Args:
        gemms: (batch rows, inputs, outputs, whether inputs need a gradient) a layer.
        width: Of the rows; 0 where there are no tables.
        num_rows: Of the largest table; not more than 2 GB of it are made.
        device: Where.
        precision: Of the products. The caller has set torch to it; bfloat16 on a GPU,
            which is autocast's in training, is the matrices' own type here.
    """
    random = torch.Generator(device).manual_seed(0)
    lower = precision is Precision.bf16 and device.type == "cuda"
    dtype = torch.bfloat16 if lower else torch.float32

    def matrix(rows: int, columns: int) -> torch.Tensor:
        made = torch.rand(rows, columns, device=device, generator=random)
        return made.to(dtype)

    layers = [
        _layer(*gemm, device=device, matrix=matrix) for gemm in dict.fromkeys(gemms)
    ]
    side = [matrix(_SQUARE, _SQUARE) for _ in range(3)]
    square = seconds_of(lambda: torch.mm(side[0], side[1], out=side[2]), device)
    source = torch.zeros(_COPY_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    copied = seconds_of(lambda: target.copy_(source), device)
    found: dict[str, Any] = {
        "layers": layers,
        "peak_flops": 2 * _SQUARE**3 / square,
        # Read once and written once.
        "copy_bytes_per_second": 2 * _COPY_BYTES / copied,
        "gather_bytes_per_second": None,
        "update_bytes_per_second": None,
    }
    if width:
        found |= _rows(width, num_rows, device, random)
    return found


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one call, the first quarter of all calls by speed."""
    spent = [_once(work, device)]
    deadline = time.perf_counter() + _SECONDS
    while time.perf_counter() < deadline or len(spent) < 6:
        spent.append(_once(work, device))
    # The first call allocates and wakes threads.
    return float(np.quantile(spent[1:], 0.25))


def _once(work: Callable[[], Any], device: torch.device) -> float:
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _layer(
    rows: int,
    inputs: int,
    outputs: int,
    input_gradient: bool,
    *,
    device: torch.device,
    matrix: Callable[[int, int], torch.Tensor],
) -> dict[str, Any]:
    """Time a linear layer's forward product and those of both gradients."""
    x, weight, y = (
        matrix(rows, inputs),
        matrix(outputs, inputs),
        matrix(rows, outputs),
    )
    x_out, weight_out = torch.empty_like(x), torch.empty_like(weight)
    out = torch.empty_like(y)
    products = {
        "forward": lambda: torch.mm(x, weight.t(), out=out),
        "weight gradient": lambda: torch.mm(y.t(), x, out=weight_out),
    }
    if input_gradient:
        products["input gradient"] = lambda: torch.mm(y, weight, out=x_out)
    seconds = {name: seconds_of(work, device) for name, work in products.items()}
    flops = 2 * rows * inputs * outputs * len(products)
    return {
        "shape": [rows, inputs, outputs, input_gradient],
        "seconds": seconds,
        "flops": flops,
        "flops_per_second": flops / sum(seconds.values()),
        # Each of the three matrices is read or written once by each product.
        "bytes": len(products) * sum(t.nbytes for t in (x, weight, y)),
    }


def _rows(
    width: int, num_rows: int, device: torch.device, random: torch.Generator
) -> dict[str, float]:
    """Time random rows of a table: read alone, and read, changed and written back."""
    size = max(1, min(num_rows, _TABLE_BYTES // (4 * width)))
    table = torch.zeros(size, width, device=device)
    ids = torch.randint(size, (_ROWS,), device=device, generator=random)
    rows = torch.zeros(_ROWS, width, device=device)
    gathered = seconds_of(lambda: torch.index_select(table, 0, ids, out=rows), device)
    once = torch.randperm(size, device=device, generator=random)[:_ROWS]
    changes = rows[: len(once)]
    spread = once[:, None].expand(-1, width)
    # Which of torch's two is faster depends on the width.
    added = min(
        seconds_of(lambda: table.index_add_(0, once, changes), device),
        seconds_of(lambda: table.scatter_add_(0, spread, changes), device),
    )
    return {
        "gather_bytes_per_second": 4 * width * _ROWS / gathered,
        "update_bytes_per_second": 4 * width * len(once) / added,
    }
