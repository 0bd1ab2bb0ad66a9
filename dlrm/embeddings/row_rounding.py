"""Rows kept in 16 bits: read as float32, written back rounded.

Shape suffixes: U = rows of one update, each once; R = all rows; D = width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Low bits of a float32 that a 16-bit type has no place for.
_DROPPED_BITS = {torch.float16: 13, torch.bfloat16: 16}
# Below 2^-14 the values of float16 are evenly spaced, by 2^-24.
_SMALLEST_NORMAL, _SPACING = 2.0**-14, 2.0**-24


@dataclass(frozen=True, slots=True)
class Rounding:
    """How values get into 16 bits."""

    stochastic: bool
    """Up or down at random, right on average; else to the nearest."""
    generator: torch.Generator | None = None
    """Of the noise; torch's own where None."""


NEAREST = Rounding(stochastic=False)


def read_rows(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` of ``weight`` [R, D] as float32, [U, D], in memory of its own."""
    return weight.index_select(0, rows).float()


def write_rows(
    weight: torch.Tensor,
    rows: torch.Tensor,
    values: torch.Tensor,
    rounding: Rounding = NEAREST,
) -> None:
    """Write float32 ``values`` [U, D] to ``rows`` of ``weight`` [R, D], rounded."""
    if rounding.stochastic:
        rounded = round_stochastically(
            values, weight.dtype, generator=rounding.generator
        )
    else:
        rounded = values.to(weight.dtype)
    weight.index_copy_(0, rows, rounded)


def round_stochastically(
    values: torch.Tensor,
    dtype: torch.dtype,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Round float32 up or down at random, so that the mean result is the value.

    The nearer neighbour is the likelier one, in proportion; values of ``dtype`` stay.
    A value between the largest finite one and infinity is not rounded at random.

    Args:
        values: Of any shape.
        dtype: float16 or bfloat16.
        generator: Of the noise; torch's own where None.
    """
    steps = 1 << _DROPPED_BITS[dtype]
    noise = torch.randint(
        steps,
        values.shape,
        generator=generator,
        dtype=torch.int32,
        device=values.device,
    )
    # Noise below the last kept bit carries into it with the probability that the
    # dropped bits stand for; cutting them off then rounds away from zero or towards it.
    rounded = ((values.view(torch.int32) + noise) & -steps).view(torch.float32)
    if dtype == torch.float16:
        fine = (values / _SPACING + noise / steps).floor_() * _SPACING
        rounded = torch.where(values.abs() < _SMALLEST_NORMAL, fine, rounded)
    overflows = rounded.abs() > torch.finfo(dtype).max
    return torch.where(overflows, values, rounded).to(dtype)
