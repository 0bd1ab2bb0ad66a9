from __future__ import annotations

import math

import pytest

from dlrm.config.optimizer import Decay, Schedule
from dlrm.optim.schedule import learning_rate_factor


def factors(schedule: Schedule, num_steps: int) -> list[float]:
    """Return the factor of each step."""
    return [
        learning_rate_factor(schedule, step=step, num_steps=num_steps)
        for step in range(num_steps)
    ]


def test_warm_up_rises_linearly_and_never_starts_at_zero():
    assert factors(Schedule(warmup_steps=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_decay_falls_over_the_rest_of_the_run():
    schedule = Schedule(warmup_steps=2, decay=Decay.linear)
    assert factors(schedule, 6) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_decay_ends_at_the_lowest_factor_and_stays_there():
    schedule = Schedule(decay=Decay.linear, decay_steps=2, min_factor=0.2)
    assert factors(schedule, 5) == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.2])


def test_cosine_is_one_half_in_the_middle():
    schedule = Schedule(decay=Decay.cosine, decay_steps=4)
    expected = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)]
    assert factors(schedule, 5) == pytest.approx(expected)
    assert expected[2] == pytest.approx(0.5)


def test_polynomial_decay_is_a_power_of_what_is_left():
    schedule = Schedule(decay=Decay.polynomial, decay_steps=4, power=3.0)
    assert factors(schedule, 3) == pytest.approx([1.0, 0.75**3, 0.5**3])


def test_a_run_shorter_than_its_warm_up_is_warm_up_alone():
    assert factors(Schedule(warmup_steps=10, decay=Decay.cosine), 2) == [0.1, 0.2]
