"""Bad rows of one chunk: the first one stops the work, or all are set aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dlrm.config.data import BadRows
from dlrm.config.errors import DataError
from dlrm.data.columns.shown import cell
from dlrm.data.sources.chunk import MEND_OR_SKIP, BadRow, Chunk


@dataclass(frozen=True, slots=True)
class RowFaults:
    """Collects faults by row; each row keeps its first."""

    chunk: Chunk
    policy: BadRows
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, rows: np.ndarray, describe: Callable[[int], str]) -> None:
        """Note that ``rows`` are bad; ``describe`` says what is wrong with one."""
        if self.policy is BadRows.error:
            rows = rows[:1]
        for row in rows.tolist():
            self.reasons.setdefault(row, describe(row))

    def finish(self) -> tuple[np.ndarray | None, tuple[BadRow, ...]]:
        """Return which rows are sound, None where all are, and the bad ones.

        Raises:
            DataError: A row is bad and bad rows are errors.
        """
        if not self.reasons:
            return None, ()
        if self.policy is BadRows.error:
            row = min(self.reasons)
            raise DataError(
                f"{place(self.chunk.file, int(self.chunk.rows[row]))}: "
                f"{self.reasons[row]}. {MEND_OR_SKIP}"
            )
        sound = np.ones(self.chunk.table.num_rows, dtype=bool)
        sound[list(self.reasons)] = False
        bad = tuple(self._bad_row(row) for row in sorted(self.reasons))
        return sound, bad

    def _bad_row(self, row: int) -> BadRow:
        table = self.chunk.table
        values = {name: cell(table[name], row) for name in table.column_names}
        text = json.dumps(values, ensure_ascii=False, default=str)
        number = int(self.chunk.rows[row])
        return BadRow(self.chunk.file, number, self.reasons[row], text)


def place(file: str, row: int) -> str:
    """Name a row as people find it: a text file has lines, a table has rows."""
    is_table = file.startswith("<") or file.lower().endswith((".parquet", ".pq"))
    return f"{file}, {'row' if is_table else 'line'} {row}"
