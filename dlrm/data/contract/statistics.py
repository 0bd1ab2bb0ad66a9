"""What is gathered of rows while they stream by: a sample, hashes and counts.

Shape suffixes: R = rows of a chunk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.errors import DataError
from dlrm.config.schema import FeatureSchema
from dlrm.data.columns.canonical_text import canonical_text
from dlrm.data.columns.parse_numbers import parse_times
from dlrm.data.columns.whole_column import whole_column
from dlrm.data.contract import array_bytes
from dlrm.data.contract.picking import pick_columns
from dlrm.data.contract.row_hashes import HashSketch, quick_keys, row_hashes
from dlrm.data.contract.sample import RowSample, row_keys
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.hashing import hash_texts


class RowStatistics:
    """The rows of one split, or of one input."""

    def __init__(self, schema: FeatureSchema, expected_rows: int = 0) -> None:
        """Start with no row; ``expected_rows`` are to come, of all parts together.

        They change no result that is finished: a part of many keeps fewer rows.
        """
        num_columns = 2 * (len(schema.dense) + len(schema.sparse)) + 2
        self.sample = RowSample(num_columns, expected_rows)
        self.rows, self.ids = HashSketch(expected_rows), HashSketch(expected_rows)
        self.num_rows = 0
        self.num_positives = 0.0
        self.num_backward = 0
        """Rows older than the row before them."""
        self.num_ids: defaultdict[str, int] = defaultdict(int)
        self.num_outside: defaultdict[str, int] = defaultdict(int)
        """Ids that the vocabulary or the table does not have."""

    def merge(self, other: RowStatistics) -> None:
        """Take in what was gathered of further rows."""
        self.sample.merge(other.sample)
        self.rows.merge(other.rows)
        self.ids.merge(other.ids)
        self.num_rows += other.num_rows
        self.num_positives += other.num_positives
        self.num_backward += other.num_backward
        for name, count in other.num_ids.items():
            self.num_ids[name] += count
        for name, count in other.num_outside.items():
            self.num_outside[name] += count

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all but the counts of ids, by name."""
        counts = [self.num_rows, self.num_positives, self.num_backward]
        return {
            "counts": np.array(counts, dtype=np.float64),
            **{f"sample/{n}": a for n, a in self.sample.to_arrays().items()},
            **{f"rows/{n}": a for n, a in self.rows.to_arrays().items()},
            **{f"ids/{n}": a for n, a in self.ids.to_arrays().items()},
        }

    def take_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what ``to_arrays`` was of."""

        def below(lead: str) -> dict[str, np.ndarray]:
            own = {n: a for n, a in arrays.items() if n.startswith(lead)}
            return {name.removeprefix(lead): array for name, array in own.items()}

        rows, positives, backward = arrays["counts"].tolist()
        self.num_rows, self.num_positives = int(rows), positives
        self.num_backward = int(backward)
        self.sample.take_arrays(below("sample/"))
        self.rows.take_arrays(below("rows/"))
        self.ids.take_arrays(below("ids/"))


def columns_watched(data: DataConfig) -> tuple[str, ...]:
    """Name the typed raw columns that a ``Gathering`` looks at."""
    return f"raw:{data.time_column}", f"raw:{data.id_column}"


class Gathering:
    """Statistics of several groups of rows, such as splits, gathered in one pass."""

    def __init__(
        self,
        data: DataConfig,
        schema: FeatureSchema,
        num_groups: int = 1,
        *,
        expected_rows: Sequence[int] | None = None,
    ) -> None:
        """Start with no row; ``expected_rows`` are each group's, where known."""
        self._data, self._schema = data, schema
        sizes = expected_rows or [0] * num_groups
        self.groups = [RowStatistics(schema, rows) for rows in sizes]

    def update(
        self, typed: pa.Table, rows: EncodedRows, codes: np.ndarray | None = None
    ) -> None:
        """Take in a chunk, typed and encoded; ``codes`` [R] are its rows' groups."""
        if not len(rows):
            return
        if codes is None:
            codes = np.zeros(len(rows), dtype=np.int8)
        times = self._times(typed)
        keys, quick = row_keys(typed), quick_keys(rows, self._schema)
        id_hashes = self._id_hashes(typed)
        chosen_rows = []
        for code, group in enumerate(self.groups):
            is_own = codes == code
            chosen_rows.append(group.sample.chosen(keys, is_own))
            own = np.flatnonzero(is_own)
            if not own.size:
                continue
            group.num_rows += own.size
            group.num_positives += float(rows.labels.take(own).sum(dtype=np.float64))
            chosen = np.flatnonzero(is_own & (quick <= np.uint64(group.rows.limit)))
            group.rows.add(quick.take(chosen), row_hashes(rows, chosen))
            if id_hashes is not None:
                is_low = id_hashes <= np.uint64(group.ids.limit)
                known = id_hashes[is_own & is_low]
                group.ids.add(known, known)
            if times is not None:
                group.num_backward += int((np.diff(times.take(own)) < 0).sum())
        # Of all groups at once: looking at a column costs more than a few rows of it.
        every = np.concatenate(chosen_rows)
        columns = pick_columns(typed, rows, self._schema, every, times)
        start = 0
        for group, own in zip(self.groups, chosen_rows, strict=True):
            part = slice(start, start + own.size)
            group.sample.take(keys[own], {n: c[part] for n, c in columns.items()})
            start += own.size

    def observe(
        self, name: str, is_outside: np.ndarray, lengths: np.ndarray | None
    ) -> None:
        """Count one feature's ids where all rows are one group; see ``Observer``."""
        (group,) = self.groups
        group.num_ids[name] += is_outside.size
        group.num_outside[name] += int(np.count_nonzero(is_outside))

    def count_outside(
        self, counts: dict[str, dict[str, int]], shares: dict[str, dict[str, float]]
    ) -> None:
        """Take ids outside by feature and split, as a ``SplitTally`` counted them."""
        for name, by_split in shares.items():
            for code, split in enumerate(SPLITS):
                share = by_split.get(split, 0.0)
                count = counts.get(name, {}).get(split, 0)
                group = self.groups[code]
                group.num_outside[name] = count
                group.num_ids[name] = round(count / share) if share else group.num_rows

    def merge(self, other: Gathering | bytes) -> None:
        """Take in what was gathered of further chunks, perhaps as ``to_bytes``."""
        if isinstance(other, bytes):
            self._merge_bytes(other)
            return
        for own, others in zip(self.groups, other.groups, strict=True):
            own.merge(others)

    def to_bytes(self) -> bytes:
        """Return all groups, for ``merge``."""
        arrays = {
            f"{code}/{name}": array
            for code, group in enumerate(self.groups)
            for name, array in group.to_arrays().items()
        }
        return array_bytes.to_bytes(arrays)

    def _merge_bytes(self, data: bytes) -> None:
        arrays: list[dict[str, np.ndarray]] = [{} for _ in self.groups]
        for field, array in array_bytes.from_bytes(data).items():
            code, _, name = field.partition("/")
            arrays[int(code)][name] = array
        for group, own in zip(self.groups, arrays, strict=True):
            part = RowStatistics(self._schema)
            part.take_arrays(own)
            group.merge(part)

    def _times(self, typed: pa.Table) -> np.ndarray | None:
        if "time" in typed.column_names:
            return whole_column(typed, "time").to_numpy()
        column = f"raw:{self._data.time_column}"
        if column not in typed.column_names:
            return None
        try:
            return parse_times(whole_column(typed, column), column).values
        except DataError:
            return None  # Kept beside the rows and used for nothing else.

    def _id_hashes(self, typed: pa.Table) -> np.ndarray | None:
        column = f"raw:{self._data.id_column}"
        if column not in typed.column_names:
            return None
        values = whole_column(typed, column)
        if pa.types.is_nested(values.type):
            return None
        return hash_texts(canonical_text(values, column))
