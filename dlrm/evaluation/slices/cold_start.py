"""Ids that training never saw: how many, and how good the model is on their rows.

Shape suffixes: R = rows, F2 = multi-hot features, V = ids in all bags together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlrm.config.features import Encoding, OutOfRange
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.outside_ids import OutsideIds
from dlrm.evaluation.slices.measures import EvaluatedRows, measure

_ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True, slots=True)
class UnseenIds:
    """One feature's ids, over the rows in question."""

    feature: str
    num_ids: int = 0
    num_unseen: int = 0
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """bool [R]: whether the row has such an id, one of its bag at least."""
    unknown: str = ""
    """Why this cannot be told, a few words; "" where it can."""


def unseen_of_input(outside: OutsideIds, schema: FeatureSchema) -> list[UnseenIds]:
    """Return what was noted while an input's rows were encoded; it has kept rows.

    Here every id outside is known to be, whatever the policy makes of it.
    """
    counts = outside.record()
    found = []
    for fitted in schema.sparse:
        name, unknown = fitted.name, _no_vocabulary(fitted)
        count = counts.get(name)
        if unknown or count is None:
            found.append(UnseenIds(name, unknown=unknown or "it has no ids"))
            continue
        sizes = count["num_ids"], count["num_outside"]
        found.append(UnseenIds(name, *sizes, outside.rows(name)))
    return found


def unseen_of_split(
    dataset: Dataset, split: str, row_ids: np.ndarray
) -> list[UnseenIds]:
    """Read which of a split's rows ``row_ids``, rising, have ids of the shared row 0.

    Raises:
        DatasetError: There is no such split.
    """
    schema, rows = dataset.schema, dataset.split(split)
    seen_by = {f.name: np.zeros(rows.num_rows, dtype=bool) for f in schema.sparse}
    sizes: defaultdict[str, int] = defaultdict(int)
    unseen: defaultdict[str, int] = defaultdict(int)
    for start in range(0, rows.num_rows, _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, rows.num_rows)
        part = rows.slice(start, stop)
        for name, (num_ids, num_unseen, flags) in _of_part(part, schema).items():
            sizes[name] += num_ids
            unseen[name] += num_unseen
            seen_by[name][start:stop] = flags
    return [
        UnseenIds(fitted.name, unknown=unknown)
        if (unknown := _no_vocabulary(fitted) or _unmarked(fitted))
        else UnseenIds(
            fitted.name,
            sizes[fitted.name],
            unseen[fitted.name],
            seen_by[fitted.name][row_ids],
        )
        for fitted in schema.sparse
    ]


def _of_part(
    part: EncodedRows, schema: FeatureSchema
) -> dict[str, tuple[int, int, np.ndarray]]:
    """Return by feature ids, unseen ids, and bool [R] of rows with an unseen one."""
    found = {}
    for index, fitted in enumerate(schema.one_hot):
        flags = part.one_hot[:, index] == 0
        found[fitted.name] = (len(flags), int(np.count_nonzero(flags)), flags)
    num_rows, num_bags = part.bag_lengths.shape
    bags = np.repeat(np.arange(num_rows * num_bags), part.bag_lengths.reshape(-1))
    unseen = np.bincount(bags[part.bag_values == 0], minlength=num_rows * num_bags)
    unseen_RF2 = unseen.reshape(num_rows, num_bags)
    for index, fitted in enumerate(schema.multi_hot):
        own = unseen_RF2[:, index]
        size = int(part.bag_lengths[:, index].sum())
        found[fitted.name] = (size, int(own.sum()), own > 0)
    return found


def _no_vocabulary(fitted: FittedSparse) -> str:
    encoding = fitted.feature.encoding
    if encoding is not Encoding.vocabulary:
        return f"encoding={encoding.value} keeps no list of what training saw"
    if fitted.feature.text is not None:
        return "unknown words of running text are left out"
    return ""


def _unmarked(fitted: FittedSparse) -> str:
    if fitted.feature.out_of_range is OutOfRange.hash:
        return "out_of_range=hash sends unseen ids to rows of known ones"
    return ""


def cold_start(rows: EvaluatedRows, features: Sequence[UnseenIds]) -> dict[str, Any]:
    """Measure rows with and without ids that the vocabularies do not have.

    An id is unseen where its vocabulary lacks it: training never saw it, or less often
    than ``min_frequency``, or ``num_embeddings`` left it out. ``share`` is that of ids,
    not of rows: a bag has several.

    Returns, as the entry ``cold_start`` of slices.json::

        {"features": [{"feature": "item", "num_ids": 1000, "num_unseen": 200,
                       "share": 0.2 | null, "unknown": "" | "why it cannot be told",
                       "seen": SUPPORT | null, "unseen": SUPPORT | null}],
         "any": {"seen": SUPPORT, "unseen": SUPPORT} | null}

    SUPPORT is what ``measure`` returns. ``any`` parts rows by whether any feature has
    an unseen id; it is null where no feature can tell. An entry of a feature without
    unseen ids has ``seen`` null: that is all rows.
    """
    entries: list[dict[str, Any]] = []
    any_unseen = np.zeros(len(rows), dtype=bool)
    for found in features:
        seen = unseen = None
        if not found.unknown and found.num_unseen:
            any_unseen |= found.rows
            seen, unseen = _parted(rows, found.rows)
        entries.append(
            {
                "feature": found.feature,
                "num_ids": found.num_ids,
                "num_unseen": found.num_unseen,
                "share": found.num_unseen / found.num_ids if found.num_ids else None,
                "unknown": found.unknown,
                "seen": seen,
                "unseen": unseen,
            }
        )
    whole = None
    if any(not found.unknown for found in features):
        seen, unseen = _parted(rows, any_unseen)
        whole = {"seen": seen, "unseen": unseen}
    return {"features": entries, "any": whole}


def _parted(
    rows: EvaluatedRows, unseen: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    return measure(rows.take(~unseen)), measure(rows.take(unseen))
