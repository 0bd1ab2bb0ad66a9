"""Score tables on disk: sorted runs, merged a block at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from dlrm.metrics.float_order import in_float32
from dlrm.metrics.score_table import ScoreTable, merge_tables

_MOST_RUNS = 64
_BYTES_PER_MERGED_ENTRY = 384
"""What merging holds for an entry of each run's block: it, its copies and its order."""
_FEWEST_ENTRIES = 256
_COLUMNS = tuple(field.name for field in fields(ScoreTable))


@dataclass(frozen=True, slots=True)
class Run:
    """A table on disk, scores ascending: a file for each column."""

    folder: Path
    dtypes: Mapping[str, np.dtype]
    num_entries: int

    def read(self, start: int, count: int) -> ScoreTable:
        """Return the next ``count`` entries from ``start`` on, or what is left."""
        # Read, not mapped: pages of a map would count as memory of this process.
        return ScoreTable(
            **{
                name: np.fromfile(
                    self.folder / name, dtype, count, offset=start * dtype.itemsize
                ).astype(np.float64, copy=False)
                for name, dtype in self.dtypes.items()
            }
        )

    def delete(self) -> None:
        """Remove the files."""
        for name in self.dtypes:
            (self.folder / name).unlink()
        self.folder.rmdir()


class TableSpill:
    """Tables of parts of the rows, in any number, as runs in one folder."""

    def __init__(self, folder: Path, *, memory_bytes: int) -> None:
        """Write below ``folder``; ``memory_bytes`` bound what merging holds."""
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._runs: list[Run] = []
        self._num_written = 0

    def add(self, table: ScoreTable) -> None:
        """Write one table; many runs are merged to one, which keeps blocks long."""
        self._runs.append(self._write([table], _narrowest(table)))
        if len(self._runs) == _MOST_RUNS:
            dtypes = _widest(self._runs)
            merged = self._write(self.merged(), dtypes)
            for run in self._runs:
                run.delete()
            self._runs = [merged]

    def merged(self) -> Iterator[ScoreTable]:
        """Yield the table of all rows in parts of rising, distinct scores."""
        room = self._memory_bytes // (_BYTES_PER_MERGED_ENTRY * max(len(self._runs), 1))
        return _merge(self._runs, block=max(room, _FEWEST_ENTRIES))

    def _write(
        self, tables: Iterable[ScoreTable], dtypes: Mapping[str, np.dtype]
    ) -> Run:
        folder = self._folder / f"run-{self._num_written}"
        self._num_written += 1
        folder.mkdir()
        num_entries = 0
        with ExitStack() as stack:
            files = {
                name: stack.enter_context((folder / name).open("wb")) for name in dtypes
            }
            for table in tables:
                num_entries += len(table.scores)
                for name, dtype in dtypes.items():
                    values = _column(table, name)
                    files[name].write(values.astype(dtype, copy=False).data)
        return Run(folder, dtypes, num_entries)


def _column(table: ScoreTable, name: str) -> np.ndarray:
    values = getattr(table, name)
    found: np.ndarray = table.sums_of_squares() if values is None else values
    return found


def _narrowest(table: ScoreTable) -> dict[str, np.dtype]:
    """Return for each column the narrowest type that loses nothing."""
    found = {}
    for name in _COLUMNS:
        values = getattr(table, name)
        if values is not None:
            found[name] = in_float32(values).dtype
    return found


def _widest(runs: Sequence[Run]) -> dict[str, np.dtype]:
    """Return the types of the table of all runs: sums may need all of float64."""
    present = {name for run in runs for name in run.dtypes}
    found = {name: np.dtype(np.float64) for name in _COLUMNS if name in present}
    found["scores"] = np.result_type(*(run.dtypes["scores"] for run in runs))
    return found


def _merge(runs: Sequence[Run], *, block: int) -> Iterator[ScoreTable]:
    """Yield tables of rising scores, holding at most ``block`` entries of each run."""
    ends = [0] * len(runs)
    held: list[ScoreTable | None] = [None] * len(runs)
    while True:
        for number, run in enumerate(runs):
            if held[number] is None and ends[number] < run.num_entries:
                table = run.read(ends[number], block)
                held[number], ends[number] = table, ends[number] + len(table.scores)
        # What a run has left on disk is above its last held score.
        lasts = [
            table.scores[-1]
            for table, end, run in zip(held, ends, runs, strict=True)
            if table is not None and end < run.num_entries
        ]
        cut = min(lasts, default=np.inf)
        taken = []
        for number, block_held in enumerate(held):
            if block_held is not None:
                place = int(np.searchsorted(block_held.scores, cut, side="right"))
                taken.append(_slice(block_held, slice(0, place)))
                rest = _slice(block_held, slice(place, None))
                held[number] = rest if len(rest.scores) else None
        if not taken:
            return
        yield merge_tables([table for table in taken if len(table.scores)])


def _slice(table: ScoreTable, part: slice) -> ScoreTable:
    squares = None if table.squares is None else table.squares[part]
    return ScoreTable(
        table.scores[part], table.positives[part], table.negatives[part], squares
    )
