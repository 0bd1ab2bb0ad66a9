"""Measurements: every kind of finding as a number, with what chance makes of it.

Thresholds and severities come later, so that a prepared dataset can be judged anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.comparing import (
    bin_counts,
    log_odds,
    log_odds_noise,
    range_noise,
    separation,
    separation_of_ids,
    share_noise,
    stability_index,
)
from dlrm.data.contract.picking import (
    LABEL,
    TIME,
    id_column,
    missing_column,
    number_column,
)
from dlrm.data.contract.profile import (
    IdProfile,
    NumberProfile,
    Profile,
    categories,
    category_counts,
)
from dlrm.data.contract.sample import Columns
from dlrm.data.contract.statistics import RowStatistics

MIN_ROWS = 20
"""Fewer rows are not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One number about one feature, or about the rows as a whole."""

    kind: str
    value: float
    noise: float = 0.0
    """What chance alone may add to the value of sound rows."""
    feature: str = ""
    rows: str = "train"
    """A split, or the name of an input."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KnownHashes:
    """Hashes of training rows and ids, each at or below its limit."""

    rows: np.ndarray
    ids: np.ndarray


def measure_training(
    train: RowStatistics, schema: FeatureSchema
) -> Iterator[Measurement]:
    """Yield what the training rows say by themselves."""
    columns = train.sample.columns()
    if len(train.sample) < MIN_ROWS:
        return
    labels = None if schema.num_label_bags else columns[LABEL]
    names = [f.name for f in schema.dense] + [f.name for f in schema.sparse]
    for name in names:
        values, is_number = _values(columns, name)
        if values is None:
            continue
        if np.unique(values).size == 1:
            yield Measurement(
                kind="constant_feature",
                value=1.0,
                feature=name,
                detail=f"all {train.num_rows:,} training rows",
            )
        elif labels is not None:
            yield Measurement(
                kind="label_leak",
                value=_leak(values, labels, is_number=is_number),
                feature=name,
            )
    yield from _order(train, "train")


def measure_new(
    new: RowStatistics,
    profile: Profile,
    known: KnownHashes,
    *,
    name: str,
    with_labels: bool,
    in_time: bool,
) -> Iterator[Measurement]:
    """Yield how new rows differ from those of training.

    ``in_time`` says that new rows are to be newer than all of training.
    """
    if len(new.sample) < MIN_ROWS:
        return
    columns = new.sample.columns()
    for feature, number in profile.numbers.items():
        values = columns.get(number_column(feature))
        if values is not None:
            yield from _number(number, values, feature, name)
    for feature, ids in profile.ids.items():
        if id_column(feature) in columns:
            yield from _ids(ids, new, columns, feature, name)
    if with_labels:
        yield from _label(profile, new, name)
        yield from _duplicate_rows(profile, new, known.rows, name)
    yield from _duplicate_ids(profile, new, known.ids, name)
    yield from _order(new, name)
    if in_time and profile.newest is not None and TIME in columns:
        older = float((columns[TIME] < profile.newest).mean())
        yield Measurement(kind="time_overlap", value=older, rows=name)


def _values(columns: Columns, name: str) -> tuple[np.ndarray | None, bool]:
    number = columns.get(number_column(name))
    return (columns.get(id_column(name)), False) if number is None else (number, True)


def _leak(values: np.ndarray, labels: np.ndarray, *, is_number: bool) -> float:
    if not is_number:
        return separation_of_ids(values, labels)
    is_missing = np.isnan(values)
    found = [separation(values[~is_missing], labels[~is_missing])]
    found.append(separation(is_missing, labels))
    # What separates half of the rows is no label where the other half lacks it.
    return found[1] if is_missing.mean() > 0.5 else max(found)


def _number(
    known: NumberProfile, values: np.ndarray, feature: str, name: str
) -> Iterator[Measurement]:
    is_missing = np.isnan(values)
    yield _missing(known.missing, known.num_rows, is_missing, feature, name)
    present, num_known = values[~is_missing], sum(known.counts)
    if present.size < MIN_ROWS or num_known < MIN_ROWS:
        return
    beyond = (present < known.least) | (present > known.greatest)
    yield Measurement(
        kind="out_of_range",
        value=float(beyond.mean()),
        noise=range_noise(num_known, present.size),
        feature=feature,
        rows=name,
        detail=f"training has {known.least:.6g} to {known.greatest:.6g}, these rows "
        f"{present.min():.6g} to {present.max():.6g}",
    )
    index, noise = stability_index(
        np.array(known.counts), bin_counts(present, known.edges)
    )
    yield Measurement(
        kind="dense_drift", value=index, noise=noise, feature=feature, rows=name
    )


def _ids(
    known: IdProfile, new: RowStatistics, columns: Columns, feature: str, name: str
) -> Iterator[Measurement]:
    ids, is_missing = columns[id_column(feature)], columns[missing_column(feature)]
    yield _missing(known.missing, known.num_rows, is_missing, feature, name)
    total = new.num_ids[feature]
    if known.new is not None and total >= MIN_ROWS:
        share = _share_outside(known, new.num_outside[feature] / total, ids, is_missing)
        yield Measurement(
            kind="new_categories",
            value=max(0.0, share - known.new),
            noise=share_noise(known.new, share, max(known.num_ids, 1), total),
            feature=feature,
            rows=name,
            detail=f"{share:.1%} of the ids are new, {known.new:.1%} were expected",
        )
    present = ids[categories(ids, is_missing, shares_row_0=known.shares_row_0)]
    if known.common and present.size >= MIN_ROWS:
        index, noise = stability_index(
            np.array(known.counts), category_counts(present, known.common)
        )
        yield Measurement(
            kind="categorical_drift",
            value=index,
            noise=noise,
            feature=feature,
            rows=name,
        )


def _share_outside(
    known: IdProfile, share: float, ids: np.ndarray, is_missing: np.ndarray
) -> float:
    """Leave missing values out, which are outside where training had none."""
    missing = float(is_missing.mean())
    is_outside = known.missing == 0 or not ids[is_missing].any()
    if not missing or missing == 1 or not is_outside:
        return share
    return max(0.0, share - missing) / (1 - missing)


def _missing(
    known: float, num_known: int, is_missing: np.ndarray, feature: str, name: str
) -> Measurement:
    share = float(is_missing.mean())
    return Measurement(
        kind="missing_share",
        value=abs(share - known),
        noise=share_noise(known, share, max(num_known, 1), is_missing.size),
        feature=feature,
        rows=name,
        detail=f"missing in {share:.1%} of these rows, in {known:.1%} of training",
    )


def _label(profile: Profile, new: RowStatistics, name: str) -> Iterator[Measurement]:
    if profile.num_positives is None:
        return
    known, variance = log_odds(profile.num_positives, profile.num_rows)
    found, other = log_odds(new.num_positives, new.num_rows)
    yield Measurement(
        kind="label_shift",
        value=abs(found - known),
        noise=log_odds_noise(variance, other),
        rows=name,
        detail=f"click rate {new.num_positives / new.num_rows:.4f} against "
        f"{profile.num_positives / profile.num_rows:.4f} in training",
    )


def _duplicate_rows(
    profile: Profile, new: RowStatistics, known: np.ndarray, name: str
) -> Iterator[Measurement]:
    hashes = new.rows.hashes(profile.rows_limit)
    if hashes.size < MIN_ROWS:
        return
    chance = min(1.0, profile.num_rows * profile.same_row)
    yield Measurement(
        kind="duplicate_rows",
        value=float(np.isin(hashes, known).mean()),
        # Features hang together, so that equal rows are commoner than by chance.
        noise=10 * chance**0.5 + 3 / hashes.size,
        rows=name,
    )


def _duplicate_ids(
    profile: Profile, new: RowStatistics, known: np.ndarray, name: str
) -> Iterator[Measurement]:
    if profile.ids_limit is None:
        return
    hashes = new.ids.hashes(profile.ids_limit)
    if hashes.size:
        share = float(np.isin(hashes, known).mean())
        yield Measurement(kind="duplicate_ids", value=share, rows=name)


def _order(rows: RowStatistics, name: str) -> Iterator[Measurement]:
    if rows.num_rows > 1 and TIME in rows.sample.columns():
        share = rows.num_backward / (rows.num_rows - 1)
        yield Measurement(kind="time_order", value=share, rows=name)
