"""The built-in click log: seeded, of any length, its best possible scores known."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig, SyntheticSource
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.impressions import (
    BLOCK_ROWS,
    count_items,
    draw_clicks,
    draw_impressions,
    find_intercept,
)
from dlrm.data.sources.planted import Bags, Impressions, Truth, World, judge
from dlrm.data.sources.world import build_world

FILE_NAME = "<synthetic>"
RARE_BELOW = 5
"""An item is rare that is shown fewer times than this in the training rows."""

_FORMAT_VERSION = 1
_AGES = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
_DEVICES = ("phone", "desktop", "tablet")


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one split, [start, stop)."""

    split: str
    start: int
    stop: int


class SyntheticLog:
    """Rows of ``data.synthetic``: features, clicks and the true click probability.

    Two columns are no features: ``bayes_probability``, which made the click, and
    ``capped_probability``, the best guess of one who knows the whole truth but what is
    each rare item's own, which ``RARE_BELOW`` training rows cannot teach.
    """

    def __init__(self, data: DataConfig) -> None:
        """Take ``data.synthetic``; nothing is drawn before the rows are asked for."""
        self._options = data.synthetic or SyntheticSource()

    def identity(self) -> dict[str, Any]:
        """Return what the rows follow from."""
        options = self._options
        return {
            "format": "synthetic",
            "version": _FORMAT_VERSION,
            "num_rows": options.num_rows,
            "seed": options.seed,
        }

    def chunks(self) -> Iterator[Chunk]:
        """Yield train, valid and test rows, at most ``BLOCK_ROWS`` at a time."""
        for piece in self.pieces():
            yield from piece.chunks()

    def pieces(self) -> Iterator[SyntheticPiece]:
        """Yield the blocks, which are not yet drawn."""
        seed, num_rows = self._options.seed, self._options.num_rows
        world = _world(seed)
        intercept = find_intercept(world, seed)
        num_train = cut_parts(num_rows)[0].stop
        rare = np.packbits(count_items(world, seed, num_train) < RARE_BELOW)
        for start in range(0, num_rows, BLOCK_ROWS):
            yield SyntheticPiece(seed, num_rows, start, intercept, rare)


@dataclass(frozen=True, slots=True)
class SyntheticPiece:
    """One block of the log, which any process can draw."""

    seed: int
    num_rows: int
    start: int
    intercept: float
    rare: np.ndarray
    """Which items are rare: bits, packed."""

    def chunks(self) -> Iterator[Chunk]:
        """Draw the rows; a chunk is of one split."""
        world, start = _world(self.seed), self.start
        num_items = len(world.items.key)
        rare = np.unpackbits(self.rare, count=num_items).astype(bool)
        block = start // BLOCK_ROWS
        table = _draw_table(world, self.seed, block, self.intercept, rare)
        for part in cut_parts(self.num_rows):
            first = max(start, part.start)
            stop = min(start + BLOCK_ROWS, part.stop)
            if first < stop:
                yield Chunk(
                    table=table.slice(first - start, stop - first),
                    file=FILE_NAME,
                    rows=np.arange(first, stop, dtype=np.int64) + 1,
                    split=part.split,
                    progress=stop / self.num_rows,
                )

    def digest(self) -> str:
        """Return the block's place: all else is part of the source's identity."""
        return str(self.start)


@functools.lru_cache(maxsize=1)
def _world(seed: int) -> World:
    return build_world(seed)


def cut_parts(num_rows: int) -> tuple[Part, Part, Part]:
    """Cut rows 8:1:1; rows are drawn independently, so their order tells nothing."""
    valid, test = num_rows * 8 // 10, num_rows * 9 // 10
    return (
        Part("train", 0, valid),
        Part("valid", valid, test),
        Part("test", test, num_rows),
    )


def _draw_table(
    world: World, seed: int, block: int, intercept: float, rare: np.ndarray
) -> pa.Table:
    """Draw one block; ``rare`` is bool [items]."""
    rows = draw_impressions(world, seed, block)
    truth = judge(world, rows, intercept=intercept)
    clicks = draw_clicks(truth.probabilities, seed, block)
    columns = {
        "click": pa.array(clicks.astype(np.int8)),
        **_user_columns(world, rows),
        **_item_columns(world, rows),
        **_context_columns(rows),
        **_probability_columns(truth, rare[rows.item]),
    }
    return pa.table(columns)


def _user_columns(world: World, rows: Impressions) -> dict[str, pa.Array]:
    users = world.users
    return {
        "user": pa.array(rows.user),
        "age": pa.array(_AGES).take(pa.array(users.age[rows.user])),
        "region": pa.array(users.region[rows.user]),
        "interests": _list_array(users.interests, rows.user),
        "user_views": pa.array(users.views[rows.user]),
    }


def _item_columns(world: World, rows: Impressions) -> dict[str, pa.Array]:
    items = world.items
    return {
        "item": pa.array(items.key[rows.item]),
        "category": pa.array(items.category[rows.item]),
        "brand": pa.array(items.brand[rows.item]),
        "tags": _list_array(items.tags, rows.item),
        "rating": _with_nulls(items.rating[rows.item]),
        "price_ratio": _with_nulls(rows.price_ratio),
        "item_age_days": pa.array(rows.item_age_days),
    }


def _context_columns(rows: Impressions) -> dict[str, pa.Array]:
    return {
        "device": pa.array(_DEVICES).take(pa.array(rows.device)),
        "slot": pa.array(rows.slot + 1),
        "hour": pa.array(rows.hour),
        "session_pages": pa.array(rows.session_pages),
        "hours_since_visit": _with_nulls(rows.hours_since_visit),
    }


def _probability_columns(truth: Truth, rare: np.ndarray) -> dict[str, pa.Array]:
    known, unknown = truth.probabilities, truth.probabilities_of_unknown_items
    return {
        "bayes_probability": pa.array(known),
        "capped_probability": pa.array(np.where(rare, unknown, known)),
    }


def _list_array(bags: Bags, owners: np.ndarray) -> pa.Array:
    values, lengths = bags.gather(owners)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _with_nulls(values: np.ndarray) -> pa.Array:
    return pa.array(values, from_pandas=True)
