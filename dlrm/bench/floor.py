"""A step against the limits of the machine it ran on."""

from __future__ import annotations

from typing import Any


def floor_of(
    *,
    seconds_a_step: float,
    examples_a_step: float,
    split: dict[str, Any],
    traffic: dict[str, Any],
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Return the floor of a step, the share of it reached, and rates against limits.

    The floor is the sum of every matrix product alone, plus the rows over the rate of
    random rows: each id's row read once forward, and each distinct row read and written
    once by the update. Batched products of the interaction, activations, copies and the
    optimizer count nothing, so that no step reaches the floor.
    """
    timed = {tuple(layer["shape"]): layer for layer in limits["layers"]}
    layers = [timed[tuple(gemm)] for gemm in split["gemms"]]
    gemm_seconds = sum(sum(layer["seconds"].values()) for layer in layers)
    flops = sum(layer["flops"] for layer in layers)
    moved = traffic["read_bytes"] + 2 * traffic["changed_bytes"]
    gather = limits["gather_bytes_per_second"]
    row_seconds = moved / gather if gather else 0.0
    floor = gemm_seconds + row_seconds
    seconds = split["seconds"]
    return {
        "gemm_seconds": gemm_seconds,
        "row_seconds": row_seconds,
        "seconds": floor,
        "examples_per_second": examples_a_step / floor,
        "share_reached": floor / seconds_a_step,
        "flops_a_step": flops,
        "flops_per_second": flops / seconds_a_step,
        "gemm_limit_flops_per_second": flops / gemm_seconds,
        "moved_bytes_a_step": moved,
        "lookup_bytes_per_second": _rate(
            traffic["read_bytes"], seconds["embedding forward"]
        ),
        "update_bytes_per_second": _rate(traffic["changed_bytes"], seconds["update"]),
    }


def _rate(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 and amount else None
