"""A dimension deals every row to one slice. Shape suffix: R = rows, S = slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlrm.metrics.clusters import number_values

MISSING = "(missing)"
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class SliceName:
    """What a slice is called; ``values`` has one entry for each part of a crossing."""

    text: str
    values: tuple[str, ...]
    kind: str = "value"
    """``value``, ``missing`` (rows without a value) or ``others`` (all rarer ones)."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """All rows, dealt to S slices: none is left out and none counts twice."""

    key: str
    """As typed: ``device``, ``country*device``."""
    kind: str
    """``column``, ``bucket``, ``time``, ``activity`` or ``crossing``."""
    codes: np.ndarray
    """int16 [R], each row's slice."""
    names: tuple[SliceName, ...]
    """[S], in the order they are shown in."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Of this kind: ``num_values``, ``edges``, ``counted``."""


class NoDimensionError(ValueError):
    """The rows cannot be sliced so; the message is the reason, a few words."""


def rank_and_cut(
    codes: np.ndarray,
    names: Sequence[SliceName],
    *,
    num_shown: int,
    keep_order: bool = False,
) -> tuple[np.ndarray, tuple[SliceName, ...]]:
    """Keep the ``num_shown`` values with most rows; the rest become ``(others)``.

    The slice of missing values stays beside them and comes last but for the others.
    Slices are ordered by rows, equally many by name, or as they came; slices without
    rows go.
    """
    sizes = np.bincount(codes, minlength=len(names))
    present = [i for i in range(len(names)) if sizes[i]]
    missing = [i for i in present if names[i].kind == "missing"]
    values = [i for i in present if names[i].kind == "value"]
    ranked = sorted(values, key=lambda i: (-sizes[i], names[i].text))
    shown = ranked[:num_shown]
    if keep_order:
        shown = sorted(shown)
    order = [*shown, *missing]
    place = np.full(len(names), len(order), dtype=np.int16)
    place[order] = np.arange(len(order))
    found = [names[i] for i in order]
    if len(order) < len(present):
        num_parts = len(names[present[0]].values)
        found.append(SliceName(OTHERS, (OTHERS,) * num_parts, "others"))
    return place[codes], tuple(found)


def cross(first: Dimension, second: Dimension, *, num_shown: int) -> Dimension:
    """Return the crossing of two dimensions, cut to its ``num_shown`` largest cells."""
    size = len(second.names)
    both = np.multiply(first.codes, size, dtype=np.int64) + second.codes
    pairs, codes = number_values(both)
    names = []
    for pair in pairs.tolist():
        a, b = first.names[pair // size], second.names[pair % size]
        names.append(SliceName(f"{a.text} x {b.text}", (*a.values, *b.values)))
    codes, shown = rank_and_cut(codes, names, num_shown=num_shown)
    return Dimension(
        key=f"{first.key}*{second.key}",
        kind="crossing",
        codes=codes,
        names=shown,
        facts={"num_values": len(names)},
    )
