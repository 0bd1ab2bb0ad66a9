"""Which rows of which table stand in which file, and which process writes it.

The files depend on the tables alone; the plan says who writes each and who sends what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from dlrm.checkpoints.files import TRAINING, WEIGHT, rows_name
from dlrm.distributed.plan import Part
from dlrm.embeddings.outline import ColumnKind, TableOutline

MAX_FILE_BYTES = 256 * 2**20
"""Of the rows in one file, and of what a process sends at a time."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring rows of a table that stand in one file."""

    outline: TableOutline
    kinds: dict[str, ColumnKind]
    """Of the file's columns, by name."""
    start: int
    stop: int
    writer: int
    """The process that writes the file: one of those that keep some of it."""

    @property
    def name(self) -> str:
        """The file's, inside the checkpoint."""
        return rows_name(self.outline.table, self.start, self.stop)

    def empty(self) -> dict[str, torch.Tensor]:
        """Return the file's columns, without values."""
        rows = self.stop - self.start
        return {
            name: torch.empty((rows, *_row_shape(self.outline, name)), dtype=kind.dtype)
            for name, kind in self.kinds.items()
        }

    def pieces(self) -> Iterator[Piece]:
        """Yield what the processes give to the file, in one order everywhere."""
        for part in _parts_in(self.outline, self.start, self.stop):
            for name, kind in self.kinds.items():
                own = not kind.by_row or name in self.outline.row_states
                # The counts of a row's uses are the same wherever they are kept.
                if own or part.first_column == 0:
                    yield Piece(self, name, part)


@dataclass(frozen=True, slots=True)
class Piece:
    """The values of one column that one process gives to a block."""

    block: Block
    column: str
    part: Part

    @property
    def rows(self) -> tuple[int, int]:
        """The first row of the table, and the one after the last."""
        first, block = self.part.first_row, self.block
        return max(first, block.start), min(first + self.part.num_rows, block.stop)

    @property
    def num_bytes(self) -> int:
        """The size of the values."""
        kind, (start, stop) = self.block.kinds[self.column], self.rows
        width = 1 if kind.by_row else self.part.num_columns
        return (stop - start) * width * kind.dtype.itemsize

    def given(self, live: torch.Tensor) -> torch.Tensor:
        """Return the values among those of the process's part, [rows, ...]."""
        start, stop = self.rows
        return live[start - self.part.first_row : stop - self.part.first_row]

    def place(self, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return where the values stand in the file's columns, [rows, ...]."""
        start, stop = self.rows
        whole = columns[self.column][start - self.block.start : stop - self.block.start]
        if not self.block.kinds[self.column].by_row:
            return whole[:, self.part.columns]
        if whole.dim() == 1:
            return whole
        return whole[:, self.block.outline.edges.index(self.part.first_column)]


def lay_out(
    outlines: Iterable[TableOutline], *, with_training: bool, world_size: int
) -> list[Block]:
    """Return the blocks of all tables; each process writes about as much.

    ``with_training`` adds the weights that training goes on with.
    """
    blocks, written = [], [0] * world_size
    for outline in outlines:
        kinds = dict(outline.kinds)
        if with_training:
            kinds[TRAINING] = kinds[WEIGHT]
        row_bytes = sum(
            torch.Size(_row_shape(outline, name)).numel() * kind.dtype.itemsize
            for name, kind in kinds.items()
        )
        rows_per_file = max(MAX_FILE_BYTES // max(row_bytes, 1), 1)
        for start in range(0, outline.num_rows, rows_per_file):
            stop = min(start + rows_per_file, outline.num_rows)
            owners = {part.rank for part in _parts_in(outline, start, stop)}
            writer = min(owners, key=lambda rank: (written[rank], rank))
            written[writer] += (stop - start) * row_bytes
            blocks.append(Block(outline, kinds, start, stop, writer))
    return blocks


def in_rounds(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Yield blocks that are exchanged at once: one a writer, and little to send."""
    current: list[Block] = []
    sent: Counter[int] = Counter()
    for block in blocks:
        more: Counter[int] = Counter()
        for piece in block.pieces():
            if piece.part.rank != block.writer:
                more[piece.part.rank] += piece.num_bytes
        busy = any(other.writer == block.writer for other in current)
        if busy or any(sent[rank] + more[rank] > MAX_FILE_BYTES for rank in more):
            yield current
            current, sent = [], Counter()
        current.append(block)
        sent += more
    yield current


def _row_shape(outline: TableOutline, column: str) -> tuple[int, ...]:
    """Return the shape of what a file holds of one row."""
    kind = outline.kinds[WEIGHT if column == TRAINING else column]
    if not kind.by_row:
        return (outline.dim,)
    num_ranges = len(outline.edges) - 1
    if column in outline.row_states and num_ranges > 1:
        return (num_ranges,)
    return ()


def _parts_in(outline: TableOutline, start: int, stop: int) -> list[Part]:
    return [
        part
        for part in outline.parts
        if part.first_row < stop and part.first_row + part.num_rows > start
    ]
