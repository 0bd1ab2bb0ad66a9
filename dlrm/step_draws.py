"""What a model draws in a step, as a function of (seed, step, rank) alone."""

from __future__ import annotations

import torch


def step_seed(seed: int, step: int, *, rank: int = 0) -> int:
    """Return the 63-bit seed of a process's randomness in one step.

    splitmix64's finaliser over the three; ranks must not draw each other's masks.
    """
    mask = 2**64 - 1
    value = (seed * 0x9E3779B97F4A7C15 + step + 1) & mask
    value = (value + rank * 0xD1B54A32D192ED03) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed what a model on ``device`` draws from, as ``torch.manual_seed`` does.

    That notes the seed, with a stack trace, for the GPUs as well: half a millisecond a
    step where there is none.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
