"""The learning-rate schedule: a factor that depends on the step alone."""

from __future__ import annotations

import math

from dlrm.config.optimizer import Decay, Schedule


def learning_rate_factor(schedule: Schedule, *, step: int, num_steps: int) -> float:
    """Return the factor on both learning rates for the 0-based ``step``.

    Warm-up is linear: step s < W has (s + 1) / W. Then ``progress`` runs from 0 to 1
    over ``decay_steps``, or over what is left of ``num_steps``, and the factor from 1
    to ``min_factor``: linear 1 - p, cosine (1 + cos(pi p)) / 2, polynomial (1 - p) **
    power. It stays there for later steps.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    length = schedule.decay_steps or max(num_steps - warmup, 1)
    progress = min((step - warmup) / length, 1.0)
    match schedule.decay:
        case Decay.constant:
            return 1.0
        case Decay.linear:
            shape = 1 - progress
        case Decay.cosine:
            shape = (1 + math.cos(math.pi * progress)) / 2
        case Decay.polynomial:
            shape = (1 - progress) ** schedule.power
    return schedule.min_factor + (1 - schedule.min_factor) * shape
