"""Ratios of speeds: medians over interleaved rounds, with an interval."""

from __future__ import annotations

import time

import numpy as np
import pytest

from dlrm.bench.pairs import Ratio, interleave, median_of, speed_ratio


def test_a_contestant_is_as_fast_as_itself():
    seconds = np.random.default_rng(0).uniform(1, 2, 15)
    ratio = speed_ratio(seconds, seconds)
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 1.0, 1.0)


def test_half_the_time_is_twice_the_speed():
    seconds = np.random.default_rng(0).uniform(1, 2, 15)
    ratio = speed_ratio(seconds / 2, seconds)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_ratio_is_the_median_over_rounds_not_of_the_sums():
    candidate = np.array([1.0, 1.0, 100.0])
    baseline = np.array([2.0, 3.0, 100.0])
    assert speed_ratio(candidate, baseline).median == 2.0


def test_the_interval_holds_the_median_and_is_the_same_every_time():
    random = np.random.default_rng(1)
    candidate, baseline = random.uniform(1, 2, (2, 20))
    ratio = speed_ratio(candidate, baseline)
    rounds = baseline / candidate
    assert rounds.min() <= ratio.low <= ratio.median <= ratio.high <= rounds.max()
    assert ratio.low < ratio.high
    assert speed_ratio(candidate, baseline) == ratio


def test_contestants_take_turns_and_the_first_round_does_not_count():
    ran: list[str] = []
    names = ("a", "b", "c")
    contestants = {name: lambda name=name: ran.append(name) for name in names}
    seconds = interleave(contestants, num_rounds=3)
    assert "".join(ran) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys(
        names, 3
    )


def test_each_contestants_own_time_is_taken():
    seconds = interleave(
        {"idle": lambda: None, "asleep": lambda: time.sleep(0.2)}, num_rounds=2
    )
    assert (seconds["asleep"] >= 0.2).all()
    assert (seconds["idle"] < 0.2).all()


@pytest.mark.parametrize(
    ("median", "noise"), [(1.0, False), (1.029, False), (1.031, True), (0.969, True)]
)
def test_identical_code_more_than_three_percent_apart_is_noise(
    median: float, noise: bool
):
    assert Ratio(median, 0.5, 1.5).is_noise == noise


def test_a_median_comes_with_its_interval():
    found = median_of(np.array([3.0, 1.0, 2.0]))
    assert found.median == 2.0
    assert 1.0 <= found.low <= 2.0 <= found.high <= 3.0
    assert str(Ratio(1.5, 1.25, 1.75)) == "1.500 [1.250, 1.750]"
