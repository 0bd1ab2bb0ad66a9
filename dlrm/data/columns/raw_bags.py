"""Bags of ids from list columns or delimited strings.

Shape suffixes: R = rows, V = ids in all bags together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.errors import DataError
from dlrm.data.columns.canonical_text import encode_text
from dlrm.data.columns.cut_texts import cut_texts
from dlrm.data.columns.parse_numbers import parse_numbers
from dlrm.data.storage.rows import starts_of

Report = Callable[[np.ndarray, Callable[[int], str]], None]
"""Takes the numbers of bad rows, and a function that says what is wrong with one."""


@dataclass(frozen=True, slots=True)
class RawBags:
    """One bag a row, as canonical text."""

    ids: pa.ListArray
    """list<dictionary<int32, string>> [R]; no nulls, no "" among the ids."""
    weights: pa.ListArray | None
    """list<float32> [R], as long as the ids."""


@dataclass(frozen=True, slots=True)
class _Flat:
    lengths: np.ndarray
    """int64 [R]"""
    values: pa.Array
    """[V]"""

    @property
    def row_of_value(self) -> np.ndarray:
        return np.repeat(np.arange(self.lengths.size), self.lengths)


def parse_bags(
    ids: pa.Array,
    weights: pa.Array | None,
    *,
    delimiter: str | None,
    max_length: int | None,
    what: str,
    report: Report,
) -> RawBags:
    """Cut columns into bags; empty ids and those beyond ``max_length`` are dropped.

    A row whose weights are not finite numbers, one an id, is reported and left empty.

    Raises:
        DataError: Neither lists nor, without a delimiter, anything to cut.
    """
    flat = _flatten(ids, delimiter, what)
    texts = encode_text(flat.values, what)
    if weights is None:
        keep, numbers = np.ones(len(texts), dtype=bool), None
    else:
        keep, numbers = _weights_of(flat, _flatten(weights, delimiter, what), report)
    is_empty = pc.equal(texts.dictionary, "").to_numpy(zero_copy_only=False)
    if is_empty.any():
        keep &= ~is_empty[texts.indices.to_numpy()]
    keep = _first_ones(keep, flat, max_length)
    if keep.all():
        starts = starts_of(flat.lengths)
    else:
        counts = np.bincount(flat.row_of_value[keep], minlength=flat.lengths.size)
        starts = starts_of(counts)
        texts = texts.filter(pa.array(keep))
    offsets = pa.array(starts.astype(np.int32))
    kept_weights = None
    if numbers is not None:
        kept = pa.array(numbers[keep].astype(np.float32))
        kept_weights = pa.ListArray.from_arrays(offsets, kept)
    return RawBags(pa.ListArray.from_arrays(offsets, texts), kept_weights)


def _flatten(values: pa.Array, delimiter: str | None, what: str) -> _Flat:
    kind = values.type
    if pa.types.is_dictionary(kind) and pa.types.is_nested(kind.value_type):
        values = values.dictionary_decode()
    is_list = isinstance(
        values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray
    )
    # A map is a list of pairs to Arrow, which has no ids.
    if is_list and not pa.types.is_map(kind):
        lengths = pc.list_value_length(values).fill_null(0).to_numpy()
        return _Flat(lengths.astype(np.int64), pc.list_flatten(values))
    if pa.types.is_null(kind):
        return _Flat(np.zeros(len(values), np.int64), pa.array([], pa.string()))
    if delimiter is None:
        raise DataError(
            f"{what} must hold lists, or text with a delimiter, since multi_hot is "
            f"true, but it holds {kind} values. Set the feature's delimiter."
        )
    # Equal strings are cut once: tag lists repeat far more than they differ.
    encoded = encode_text(values, what)
    texts = encoded.dictionary
    # An empty text is an empty bag, not a bag of one empty id: null has no tokens.
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    lists = cut_texts(texts, delimiter)
    tokens = pc.list_flatten(lists).dictionary_encode()
    coded = pa.ListArray.from_arrays(lists.offsets, tokens.indices)
    picked = coded.take(encoded.indices)
    flat = pa.DictionaryArray.from_arrays(pc.list_flatten(picked), tokens.dictionary)
    lengths = pc.list_value_length(picked).to_numpy()
    return _Flat(lengths.astype(np.int64), flat)


def _weights_of(
    ids: _Flat, weights: _Flat, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """Return which ids have a sound row [V], and every id's weight [V]."""
    unequal = np.flatnonzero(ids.lengths != weights.lengths)
    report(
        unequal,
        lambda row: (
            f"one weight an id, but it has {ids.lengths[row]} ids and "
            f"{weights.lengths[row]} weights"
        ),
    )
    is_sound = np.ones(ids.lengths.size, dtype=bool)
    is_sound[unequal] = False
    keep = is_sound[ids.row_of_value]
    kept = weights.values.filter(pa.array(is_sound[weights.row_of_value]))
    parsed = parse_numbers(kept, "The weights of the bags")
    numbers = np.full(keep.size, np.nan)
    numbers[keep] = parsed.values
    # They are kept as float32, in which a larger one would be infinite.
    numbers[np.abs(numbers) > np.finfo(np.float32).max] = np.nan
    _report_missing(ids, keep, numbers, report)
    return keep, numbers


def _report_missing(
    ids: _Flat, keep: np.ndarray, numbers: np.ndarray, report: Report
) -> None:
    bad = np.flatnonzero(keep & np.isnan(numbers))
    texts = ids.values.take(pa.array(bad))
    named = [text not in (None, "") for text in texts.to_pylist()]
    rows = np.unique(ids.row_of_value[bad[np.array(named, dtype=bool)]])
    report(rows, lambda row: "finite numbers as weights, but one is missing or is none")
    if rows.size:
        keep &= ~np.isin(ids.row_of_value, rows)


def _first_ones(keep: np.ndarray, flat: _Flat, max_length: int | None) -> np.ndarray:
    if max_length is None or not (flat.lengths > max_length).any():
        return keep
    seen = starts_of(keep)
    first = np.repeat(seen[starts_of(flat.lengths)[:-1]], flat.lengths)
    within: np.ndarray = keep & (seen[:-1] - first < max_length)
    return within
