"""Impressions of the synthetic click log: a pure function of (seed, block of rows)."""

from __future__ import annotations

import numpy as np

from dlrm.data.sources.planted import NUM_SLOTS, Impressions, World, judge
from dlrm.data.sources.world import (
    device_probabilities,
    draw,
    hour_probabilities,
    power_law,
)

BLOCK_ROWS = 32_768
"""Rows drawn together. Another number makes another log."""
CLICK_RATE = 0.09
"""Mean of the true probabilities."""

# Items have a stream of their own, so that they can be counted without the rest.
_ITEMS, _REST, _CLICKS, _CALIBRATION = 1, 2, 3, 4


def draw_items(world: World, seed: int, block: int) -> np.ndarray:
    """Return the items shown in a block, int64 [BLOCK_ROWS]."""
    rng = np.random.default_rng([seed, _ITEMS, block])
    return draw(rng, world.items.cumulative, BLOCK_ROWS)


def draw_impressions(world: World, seed: int, block: int) -> Impressions:
    """Return the impressions of a block, [BLOCK_ROWS]."""
    rng = np.random.default_rng([seed, _REST, block])
    return _draw_around(world, draw_items(world, seed, block), rng)


def draw_clicks(probabilities: np.ndarray, seed: int, block: int) -> np.ndarray:
    """Return clicks of a block, bool [BLOCK_ROWS], each with its own probability."""
    rng = np.random.default_rng([seed, _CLICKS, block])
    return rng.random(len(probabilities)) < probabilities


def find_intercept(world: World, seed: int) -> float:
    """Return the log-odds that give impressions the click rate ``CLICK_RATE``.

    Found by bisection on impressions that no log holds.
    """
    rng = np.random.default_rng([seed, _CALIBRATION])
    items = draw(rng, world.items.cumulative, 4 * BLOCK_ROWS)
    rows = _draw_around(world, items, rng)
    logits = judge(world, rows, intercept=0.0)
    low, high = -12.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        shifted = 1 / (1 + np.exp(-logits.shared - logits.own - middle))
        low, high = (middle, high) if shifted.mean() < CLICK_RATE else (low, middle)
    return low


def count_items(world: World, seed: int, num_rows: int) -> np.ndarray:
    """Return how often each item is shown in the first ``num_rows`` rows, int64 [I]."""
    counts = np.zeros(len(world.items.key), dtype=np.int64)
    for start in range(0, num_rows, BLOCK_ROWS):
        items = draw_items(world, seed, start // BLOCK_ROWS)[: num_rows - start]
        counts += np.bincount(items, minlength=len(counts))
    return counts


def _draw_around(
    world: World, items: np.ndarray, rng: np.random.Generator
) -> Impressions:
    num = len(items)
    on_sale = np.where(rng.random(num) < 0.3, 1 - 0.4 * rng.random(num), 1.0)
    # Rounded as the log shows it, before the truth looks at it.
    price = np.maximum(np.round(world.items.price_ratio[items] * on_sale, 2), 0.05)
    hours = np.round(20 * rng.exponential(1.0, num) ** 2, 1)
    return Impressions(
        item=items,
        user=draw(rng, world.users.cumulative, num),
        device=draw(rng, np.cumsum(device_probabilities()), num),
        slot=draw(rng, np.cumsum(power_law(NUM_SLOTS, 0.5)), num),
        hour=draw(rng, np.cumsum(hour_probabilities()), num),
        price_ratio=np.where(rng.random(num) < 0.04, np.nan, price),
        item_age_days=np.floor(rng.exponential(30.0, num)).astype(np.int64),
        session_pages=rng.geometric(0.25, num) - 1,
        hours_since_visit=np.where(rng.random(num) < 0.12, np.nan, hours),
    )
