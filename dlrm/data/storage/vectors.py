"""Files of vectors that tables start from: Parquet by key, npy in row order.

Shape suffixes: K = vectors in the file, D = width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlrm.config.errors import ConfigError, DataError
from dlrm.config.keys import did_you_mean
from dlrm.config.table_options import Pretrained
from dlrm.data.columns.canonical_text import canonical_text

_NPY, _PARQUET = b"\x93NUMPY", b"PAR1"
_ROWS_PER_BATCH = 65_536


class VectorFile:
    """The vectors of one file, read batch by batch and checked as they are read."""

    def __init__(self, section: Pretrained, *, key: str, dim: int) -> None:
        """Open the file that ``section`` names; ``key`` is the section's key as typed.

        ``dim`` is the table's width.

        Raises:
            ConfigError: The file or a column is missing.
            DataError: The file is damaged, or a key comes twice.
        """
        assert section.path is not None
        self.path, self.key, self._dim = Path(section.path), key, dim
        self._section = section
        self.keys: pa.Array | None = None
        """Canonical texts [K] of a Parquet file."""
        start = self._start()
        if start.startswith(_NPY):
            self._rows = self._open_npy()
        elif start.startswith(_PARQUET):
            self._parquet = self._open_parquet()
            self.keys = self._read_keys()
        else:
            raise DataError(
                f"{key}.path must be a Parquet or npy file, but {self.path} is neither."
            )

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self._rows) if self.keys is None else len(self.keys)

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the place of each batch's first vector, and float32 [K, D].

        Raises:
            DataError: A vector has another width, or holds what is no finite number.
        """
        start = 0
        for vectors in self._npy() if self.keys is None else self._lists():
            # What is beyond float32 becomes infinite, and is refused below.
            with np.errstate(over="ignore"):
                found = np.ascontiguousarray(vectors, dtype=np.float32)
            bad = ~np.isfinite(found).all(axis=1)
            if bad.any():
                place = start + int(np.flatnonzero(bad)[0])
                raise DataError(
                    f"{self.key}.path must hold finite numbers, but the vector of "
                    f"{self._named(place)} in {self.path} holds NaN, infinity or "
                    f"nothing. Leave the row out."
                )
            yield start, found
            start += len(found)

    def check(self) -> None:
        """Read everything, for its errors."""
        for _ in self.batches():
            pass

    def _start(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(8)
        except OSError as error:
            raise ConfigError(
                f"{self.key}.path must name a Parquet or npy file, but {self.path} "
                f"cannot be read ({error.strerror}). Check the path."
            ) from error

    def _open_npy(self) -> np.ndarray:
        try:
            rows = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        wanted = f"an array of numbers [rows, {self._dim}]"
        if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] != self._dim:
            raise DataError(
                f"{self.key}.path must hold {wanted}, as the table is {self._dim} "
                f"wide, but {self.path} holds {rows.dtype} {list(rows.shape)}."
            )
        return rows

    def _open_parquet(self) -> pq.ParquetFile:
        try:
            file = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        columns = file.schema_arrow.names
        for setting in ("key_column", "vector_column"):
            name = getattr(self._section, setting)
            if name not in columns:
                raise ConfigError(
                    f"{self.key}.{setting} must name a column of {self.path}, but it "
                    f"is '{name}'.{did_you_mean(name, columns)} The file has: "
                    f"{', '.join(columns)}."
                )
        return file

    def _read_keys(self) -> pa.Array:
        name = self._section.key_column
        what = f"The column '{name}' of {self.path}"
        parts = [pa.array([], pa.large_string())]
        for column in self._columns(name):
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            parts.append(canonical_text(column, what).cast(pa.large_string()))
        keys = pa.concat_arrays(parts)
        counts = pc.value_counts(keys)
        if len(counts) < len(keys):
            most = int(np.argmax(counts.field("counts").to_numpy()))
            text, count = counts[most]["values"].as_py(), counts[most]["counts"]
            raise DataError(
                f"{self.key}.key_column must hold each key once, but {self.path} holds "
                f"{_shown(text)} {count} times in '{name}'. Keep one row of each key."
            )
        return keys

    def _npy(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._rows), _ROWS_PER_BATCH):
            yield self._rows[start : start + _ROWS_PER_BATCH]

    def _lists(self) -> Iterator[np.ndarray]:
        start = 0
        for column in self._columns(self._section.vector_column):
            yield self._matrix(column, start)
            start += len(column)

    def _matrix(self, column: pa.Array, start: int) -> np.ndarray:
        name, kind = self._section.vector_column, column.type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not is_list and not pa.types.is_fixed_size_list(kind):
            raise self._not_lists(name, kind)
        item = kind.value_type
        if not (pa.types.is_floating(item) or pa.types.is_integer(item)):
            raise self._not_lists(name, kind)
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        wrong = np.flatnonzero(lengths != self._dim)
        if wrong.size:
            first = int(wrong[0])
            raise DataError(
                f"{self.key}.vector_column must hold {self._dim} numbers a row, as the "
                f"table is {self._dim} wide, but {self._named(start + first)} of "
                f"{self.path} has {lengths[first]} in '{name}'. Set the table's "
                f"embedding_dim, or give vectors of its width."
            )
        # A null within a list becomes NaN.
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(numbers).reshape(-1, self._dim)

    def _columns(self, name: str) -> Iterator[pa.Array]:
        try:
            for batch in self._parquet.iter_batches(_ROWS_PER_BATCH, columns=[name]):
                # A nested column's leaves can bring their siblings along.
                yield batch.column(name)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    def _named(self, place: int) -> str:
        if self.keys is None:
            return f"row {place}"
        return f"key {_shown(self.keys[place].as_py())} (row {place})"

    def _not_lists(self, name: str, kind: pa.DataType) -> DataError:
        return DataError(
            f"{self.key}.vector_column must hold lists of {self._dim} numbers, but "
            f"'{name}' of {self.path} holds {kind}."
        )

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self.key}.path must be a whole Parquet or npy file, but {self.path} "
            f"cannot be read ({error}). Write it again."
        )


def _shown(text: str | None) -> str:
    return "null" if text is None else repr(text)
