"""Impressions of the built-in log: a pure function of (seed, block), within limits."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np

from dlrm.data.sources import impressions
from dlrm.data.sources.planted import NUM_SLOTS
from tests.fuzz.engine import Target
from tests.fuzz.findings import expect
from tests.fuzz.script import Script, seed_input
from tests.fuzz.targets.synthetic import BLOCK, world_of


def check(data: bytes, _folder: Path) -> None:
    """Draw a block twice, and count items as far as some row."""
    script = Script(data)
    seed = script.pick((0, 0, 2**63))
    block = int.from_bytes(script.body[:8], "little")
    num_rows = script.byte() * 3
    world = world_of(seed)
    with mock.patch.object(impressions, "BLOCK_ROWS", BLOCK):
        rows = impressions.draw_impressions(world, seed, block)
        again = impressions.draw_impressions(world, seed, block)
        counts = impressions.count_items(world, seed, num_rows)
        items = [
            impressions.draw_items(world, seed, b) for b in range(num_rows // BLOCK + 1)
        ]
        share = np.linspace(0, 1, BLOCK)
        clicks = impressions.draw_clicks(share, seed, block)
    for name in type(rows).__slots__:
        one, two = getattr(rows, name), getattr(again, name)
        expect(len(one) == BLOCK, "another number of rows", name)
        expect(
            np.array_equal(one, two, equal_nan=one.dtype.kind == "f"), "not pure", name
        )
    wanted = [0] * len(counts)
    for item in np.concatenate(items)[:num_rows].tolist():
        wanted[item] += 1
    expect(counts.tolist() == wanted, "items miscounted", num_rows)
    expect(
        (rows.item >= 0).all() and (rows.item < len(world.items.key)).all(), "no item"
    )
    expect((rows.slot >= 0).all() and (rows.slot < NUM_SLOTS).all(), "no slot")
    expect((rows.hour >= 0).all() and (rows.hour < 24).all(), "no hour")
    expect(
        (rows.session_pages >= 0).all() and (rows.item_age_days >= 0).all(), "below 0"
    )
    price = rows.price_ratio[~np.isnan(rows.price_ratio)]
    expect((price >= 0.05).all() and (price == np.round(price, 2)).all(), "no price")
    expect(not clicks[0] and clicks[-1], "clicks at 0 or none at 1", clicks)


TARGET = Target(
    name="impressions",
    check=check,
    seeds=(
        seed_input(b"\0"),
        seed_input(b"\x07", options=(1, 30)),
        seed_input(b"\xff" * 8, options=(1, 255)),
    ),
)
