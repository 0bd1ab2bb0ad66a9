"""Where a step's time goes: timers on modules, on autograd's nodes and on the loader.

A pass of its own, after the measured one: timers cost a little, and how much is told.
Every piece is the time between two marks of one thread, no two pieces overlap, and what
no mark covers is ``other``; so the pieces sum to the whole by construction, and the
check is how far the whole lies from a step without timers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Any

import torch

from dlrm.bench.gemms import Gemms
from dlrm.bench.step_hooks import (
    BACKWARD,
    FORWARD,
    Clock,
    backward_timed,
    data_timed,
    modules_timed,
    optimizer_timed,
)
from dlrm.trainer import Trainer

PIECES = (
    "data", "embedding forward", "interaction forward", "mlp forward",
    "rest of forward", "mlp backward", "interaction backward", "rest of backward",
    "update", "optimizer", "communication", "other",
)  # fmt: skip


def split_of_steps(
    trainer: Trainer,
    fresh_steps: Callable[[], Generator[Any, None, None]],
    *,
    num_steps: int,
) -> dict[str, Any]:
    """Take steps with timers on; return seconds a step by piece, and the products.

    Args:
        trainer: Takes the steps; it must not be in the middle of one.
        fresh_steps: Starts the trainer's loop anew, where it stands.
        num_steps: How many; the first two are not counted.
    """
    cuda = trainer.device.type == "cuda"
    clock = Clock(torch.cuda.synchronize if cuda else _nothing)
    gemms = Gemms(trainer)
    with ExitStack() as stack:
        for watching in (data_timed, modules_timed, backward_timed, optimizer_timed):
            stack.enter_context(watching(trainer, clock))
        stack.enter_context(gemms.recorded())
        steps = fresh_steps()
        for _ in range(2):
            next(steps)
        gemms.stop()
        clock.seconds.clear()
        started = clock.now()
        for _ in range(num_steps):
            next(steps)
        whole = (clock.now() - started) / num_steps
        steps.close()
    seconds = {name: value / num_steps for name, value in clock.seconds.items()}
    return {
        "seconds": _disjoint(seconds, whole),
        "whole": whole,
        "gemms": [
            [g.rows, g.inputs, g.outputs, g.input_gradient] for g in gemms.found()
        ],
    }


def _disjoint(seconds: dict[str, float], whole: float) -> dict[str, float]:
    """Return every piece, what encloses others less those."""
    found = {name: seconds.get(name, 0.0) for name in PIECES}
    of_forward = [name for name in PIECES if name.endswith(" forward")]
    inner = sum(found[name] for name in of_forward)
    found["rest of forward"] = seconds.get(FORWARD, 0.0) - inner
    hooked = ("mlp backward", "interaction backward", "update")
    inner = sum(found[name] for name in hooked)
    found["rest of backward"] = seconds.get(BACKWARD, 0.0) - inner
    found["other"] = 0.0
    found["other"] = whole - sum(found.values())
    return found


def _nothing() -> None:
    """Wait for nothing: a CPU has done its work when a call returns."""
