"""What stands in the columns of a table: one streaming pass, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.data.columns.cut_texts import cut_texts
from dlrm.data.profiling.delimited_bags import find_delimiter
from dlrm.data.sources.chunk import BadRow, Chunk

MAX_DISTINCT = 1_000_000
"""Different values of a column are counted up to here."""
_SAMPLE_ROWS = 20_000
_NUM_EXAMPLES = 3
_INTEGER = r"^-?\d+$"
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LEADING_ZERO = r"^-?0\d"
_DATE = r"^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$"


@dataclass(slots=True)
class ColumnProfile:
    """What one pass over a column finds."""

    name: str
    kind: str = ""
    """``integer``, ``number``, ``text``, ``boolean``, ``date``, ``list``, or ``other``
    for what no feature can take, such as records."""
    type_name: str = ""
    """Of such values."""
    num_rows: int = 0
    num_missing: int = 0
    num_distinct: int = 0
    """Different values, or different ids of lists; at most ``MAX_DISTINCT``."""
    values: list[object] = field(default_factory=list)
    """The different values, where they are few."""
    examples: list[str] = field(default_factory=list)
    delimiter: str | None = None
    """Cuts the text into ids of a bag."""
    leading_zeros: bool = False
    increasing: bool = True
    """Numbers never fall from one row to the next."""
    minimum: float = float("nan")
    maximum: float = float("nan")
    skewness: float = 0.0
    mean_length: float = 0.0
    """Characters of a text, over the first rows."""

    @property
    def is_unique(self) -> bool:
        """Say whether every row has a value of its own."""
        return self.num_missing == 0 and self.num_distinct == self.num_rows


@dataclass(slots=True)
class TableProfile:
    """Profiles of all columns."""

    num_rows: int = 0
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    bad_rows: list[BadRow] = field(default_factory=list)


def inspect_table(
    chunks: Iterable[Chunk], progress: Callable[[float], None] | None = None
) -> TableProfile:
    """Look at every row once. ``progress`` is told the share that is done."""
    profile = TableProfile()
    scans: dict[str, _ColumnScan] = {}
    for chunk in chunks:
        profile.bad_rows += chunk.quarantined
        profile.num_rows += chunk.table.num_rows
        for name in chunk.table.column_names:
            scan = scans.setdefault(name, _ColumnScan(name))
            if chunk.table.num_rows:
                scan.update(chunk.table[name].combine_chunks())
        if progress is not None:
            progress(chunk.progress)
    profile.columns = {name: scan.finish() for name, scan in scans.items()}
    return profile


class _ColumnScan:
    """One column's pass."""

    def __init__(self, name: str) -> None:
        self._profile = ColumnProfile(name)
        self._kinds = {"integer", "number", "date"}
        self._distinct: pa.Array | None = None
        self._moments = np.zeros(4)
        self._last = -np.inf
        self._started = False

    def update(self, array: pa.Array) -> None:
        """Look at one chunk's values."""
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        profile = self._profile
        profile.num_rows += len(array)
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        profile.num_missing += array.null_count
        if profile.type_name:
            return
        try:
            self._look(array)
        except (pa.ArrowException, OverflowError):
            # Arrow has no text of records, and Python no time after the year 9999.
            profile.type_name = str(array.type)

    def _look(self, array: pa.Array) -> None:
        values = array.drop_null()
        if not self._started and len(values):
            self._start(values)
        if isinstance(
            array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray
        ) and not pa.types.is_map(array.type):
            self._kinds = {"list"}
            values = values.flatten()
        elif pa.types.is_boolean(array.type):
            self._kinds = {"boolean"}
        elif pa.types.is_temporal(array.type):
            self._kinds &= {"date"}
        elif pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
            self._see_numbers(values)
        else:
            values = self._see_texts(values)
        self._count(values)

    def _start(self, values: pa.Array) -> None:
        self._started = True
        sample = values.slice(0, _SAMPLE_ROWS)
        self._profile.examples = [str(v) for v in sample[:_NUM_EXAMPLES].to_pylist()]
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            self._profile.mean_length = pc.mean(pc.utf8_length(sample)).as_py()
            if not pc.all(pc.match_substring_regex(sample, _NUMBER)).as_py():
                self._profile.delimiter = find_delimiter(sample.to_pylist())

    def _see_numbers(self, values: pa.Array) -> None:
        self._kinds &= {"integer", "number"}
        # Not safe: integers above 2^53 are rounded, as a feature would round them.
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if not (numbers == np.floor(numbers)).all():
            self._kinds.discard("integer")
        self._measure(numbers)

    def _see_texts(self, texts: pa.Array) -> pa.Array:
        if not pa.types.is_string(texts.type):
            texts = texts.cast(pa.string())
        # White space around a number is no part of it.
        values = pc.utf8_trim_whitespace(texts)
        for kind, pattern in (
            ("integer", _INTEGER),
            ("number", _NUMBER),
            ("date", _DATE),
        ):
            if kind in self._kinds:
                match = pc.all(pc.match_substring_regex(values, pattern)).as_py()
                if match is False:
                    self._kinds.discard(kind)
        if "number" in self._kinds:
            zeros = pc.any(pc.match_substring_regex(values, _LEADING_ZERO)).as_py()
            self._profile.leading_zeros |= bool(zeros)
            self._measure(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
        if self._profile.delimiter is not None:
            return pc.list_flatten(cut_texts(texts, self._profile.delimiter))
        return texts

    def _measure(self, numbers: np.ndarray) -> None:
        if not len(numbers):
            return
        profile = self._profile
        profile.minimum = float(np.fmin(profile.minimum, numbers.min()))
        profile.maximum = float(np.fmax(profile.maximum, numbers.max()))
        steps = np.diff(numbers, prepend=self._last)
        profile.increasing &= bool((steps >= 0).all())
        self._last = numbers[-1]
        with np.errstate(over="ignore", invalid="ignore"):
            self._moments += [(numbers**power).sum() for power in range(4)]

    def _count(self, values: pa.Array) -> None:
        known = self._distinct
        if known is not None and len(known) >= MAX_DISTINCT:
            return
        if pa.types.is_float16(values.type):
            values = values.cast(pa.float32())
        if pa.types.is_floating(values.type):
            # -0 is the number 0, which Arrow tells apart.
            zero = pa.scalar(0.0, values.type)
            values = pc.if_else(pc.equal(values, zero), zero, values)
        found = pc.unique(values)
        if known is not None:
            found = pc.unique(pa.concat_arrays([known, found.cast(known.type)]))
        self._distinct = found.slice(0, MAX_DISTINCT)

    def finish(self) -> ColumnProfile:
        """Return what was found."""
        profile = self._profile
        if self._distinct is not None:
            profile.num_distinct = len(self._distinct)
            profile.values = self._distinct.slice(0, 10).to_pylist()
        order = ("list", "boolean", "integer", "number", "date")
        some = profile.num_rows > profile.num_missing
        kinds = [kind for kind in order if kind in self._kinds]
        profile.kind = kinds[0] if some and kinds else "text"
        if profile.delimiter is not None:
            profile.kind = "list"
        if profile.type_name:
            profile.kind = "other"
        profile.skewness = _skewness(self._moments)
        return profile


def _skewness(moments: np.ndarray) -> float:
    """Return the third standardised moment from the sums of x^0 to x^3."""
    # Numbers near the limits of float64 have no finite cubes, and no shape to tell.
    if moments[0] == 0 or not np.isfinite(moments).all():
        return 0.0
    mean, square, cube = moments[1:] / moments[0]
    variance = square - mean**2
    if variance <= 1e-12 * max(1.0, square):
        return 0.0
    return float((cube - 3 * mean * square + 2 * mean**3) / variance**1.5)
