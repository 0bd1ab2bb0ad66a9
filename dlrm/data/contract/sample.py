"""An even sample of rows in bounded memory, the same however the rows were cut.

A row is chosen by a hash of where it came from, so samples of parts merge to the
sample of the whole.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dlrm.data.columns.whole_column import whole_column
from dlrm.data.transforms.hashing import hash_texts, splitmix64

MAX_ROWS = 1 << 14
_MAX_VALUES = 1 << 22
_MIN_ROWS = 1 << 11

Columns = dict[str, np.ndarray]


def row_keys(typed: pa.Table) -> np.ndarray:
    """Return a uint64 for each row, a function of its file and number alone."""
    numbers = whole_column(typed, "__row").to_numpy().astype(np.uint64)
    files = whole_column(typed, "__file")
    hashes = hash_texts(files.dictionary)
    if len(hashes) == 1:
        return splitmix64(numbers ^ hashes[0])
    return splitmix64(numbers ^ hashes[files.indices.to_numpy()])


def limit_for(expected_rows: int, max_rows: int) -> int:
    """Return the greatest key to begin with, where so many rows are to come.

    At most half of what is begun with is thrown away later: a limit too low could not
    be raised again.
    """
    limit = int(np.iinfo(np.uint64).max)
    while expected_rows > 2 * max_rows:
        limit, expected_rows = limit >> 1, expected_rows >> 1
    return limit


class RowSample:
    """All rows while there are few, else those whose keys are low enough."""

    def __init__(self, num_columns: int, expected_rows: int = 0) -> None:
        """Keep so many rows of ``num_columns`` values as memory allows.

        Of ``expected_rows`` to come, those that cannot stay are not taken in.
        """
        most = _MAX_VALUES // max(num_columns, 1)
        self._max_rows = min(MAX_ROWS, max(_MIN_ROWS, most))
        self.limit = limit_for(expected_rows, self._max_rows)
        """Greatest key of a row that is chosen."""
        self._keys: list[np.ndarray] = []
        self._columns: dict[str, list[np.ndarray]] = {}

    def __len__(self) -> int:
        """Count the rows kept."""
        self._fit()
        return self._num_held()

    def chosen(self, keys: np.ndarray, is_own: np.ndarray) -> np.ndarray:
        """Return which rows of a chunk are chosen, of those that are its own."""
        return np.flatnonzero(is_own & (keys <= np.uint64(self.limit)))

    def take(self, keys: np.ndarray, columns: Columns) -> None:
        """Take in chosen rows."""
        if keys.size:
            self._append(keys, columns)
        if self._num_held() > self._max_rows:
            self._fit()

    def merge(self, other: RowSample) -> None:
        """Take in another sample's rows."""
        self.limit = min(self.limit, other.limit)
        for index, keys in enumerate(other._keys):
            own = {name: parts[index] for name, parts in other._columns.items()}
            self._append(keys, own)
        # Joining what many samples hold costs more than to hold a little more.
        if self._num_held() > 2 * self._max_rows:
            self._fit()

    def to_arrays(self) -> Columns:
        """Return what is kept, its keys and limit, by name."""
        self._fit()
        if not self._keys:
            return {"limit": np.array([self.limit], dtype=np.uint64)}
        return {
            "limit": np.array([self.limit], dtype=np.uint64),
            "keys": np.concatenate(self._keys),
            **{f"of/{n}": np.concatenate(parts) for n, parts in self._columns.items()},
        }

    def take_arrays(self, arrays: Columns) -> None:
        """Become the sample that ``to_arrays`` was of."""
        self.limit = int(arrays["limit"][0])
        self._keys = [arrays["keys"]] if "keys" in arrays else []
        self._columns = {
            name.removeprefix("of/"): [values]
            for name, values in arrays.items()
            if name.startswith("of/")
        }

    def columns(self) -> Columns:
        """Return the rows in order of their keys, column by column."""
        self._fit()
        if not self._keys:
            return {}
        order = np.argsort(np.concatenate(self._keys), kind="stable")
        return {
            name: np.concatenate(parts)[order] for name, parts in self._columns.items()
        }

    def _num_held(self) -> int:
        return sum(part.size for part in self._keys)

    def _append(self, keys: np.ndarray, columns: Columns) -> None:
        self._keys.append(keys)
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def _fit(self) -> None:
        """Lower the limit until few enough rows are chosen, and keep just these."""
        while self._num_chosen() > self._max_rows:
            self.limit >>= 1
        if self._num_chosen() == self._num_held() and len(self._keys) < 2:
            return
        keys = np.concatenate(self._keys)
        is_kept = keys <= self.limit
        self._keys = [keys[is_kept]]
        self._columns = {
            name: [np.concatenate(parts)[is_kept]]
            for name, parts in self._columns.items()
        }

    def _num_chosen(self) -> int:
        return sum(int((keys <= self.limit).sum()) for keys in self._keys)
