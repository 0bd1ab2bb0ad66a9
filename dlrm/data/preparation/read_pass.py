"""Read the source: typed rows on disk, and what is known of them all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.durable import write_whole
from dlrm.config.errors import DataError
from dlrm.config.progress import Progress
from dlrm.data.columns.row_faults import place
from dlrm.data.preparation.blocks import BlockStore
from dlrm.data.preparation.kept_columns import raw_columns, unified_types
from dlrm.data.preparation.pieces import pieces_of
from dlrm.data.preparation.quarantine import Quarantine
from dlrm.data.preparation.spill import (
    SpilledBlock,
    SpillTask,
    blocks_of,
    counted_columns,
    raw_schema,
)
from dlrm.data.preparation.workers import Workers
from dlrm.data.sources.chunk import BadRow, Source

_READ_NAME = "rows-{:07d}"


@dataclass(frozen=True, slots=True)
class ReadRows:
    """All sound rows, set aside."""

    blocks: tuple[SpilledBlock, ...]
    raw_types: dict[str, pa.DataType]
    """One type for each raw column that holds every block's values."""
    num_quarantined: int


@dataclass(frozen=True, slots=True)
class ReadPass:
    """One pass over the source, a task for each of its pieces."""

    data: DataConfig
    source: Source
    store: BlockStore
    work: Path

    def run(self, workers: Workers, made: Path) -> ReadRows:
        """Set all rows aside, typed; those left out are listed in ``made``.

        Raises:
            DataError: A row is bad and may not be left out, or all are.
        """
        blocks: list[SpilledBlock] = []
        schemas: list[pa.Schema] = []
        done, num_rows = 0.0, 0
        digest = hashlib.sha256()
        counted = counted_columns(self.data)
        results = workers.results(self._spill_tasks())
        with Quarantine(made) as quarantine, Progress(100, "Reading", "%") as progress:
            for number, result in enumerate(results):
                name = _READ_NAME.format(number)
                digest.update(result["digest"].encode() + b"\0")
                quarantine.add([BadRow(*row) for row in result["bad"]])
                found = blocks_of(self.store, name, result, num_rows, counted)
                for block in found:
                    blocks.append(block)
                    num_rows += block.num_rows
                for part in result["parts"]:
                    schema = raw_schema(part)
                    if schema not in schemas:
                        schemas.append(schema)
                percent = 100 * result["progress"]
                progress.update(percent - done, {"rows": f"{num_rows:,}"})
                done = percent
        if quarantine.first is not None and num_rows == 0:
            raise _no_sound_row(quarantine.num_rows, quarantine.first)
        self._drop_what_is_of_other_rows(digest.hexdigest())
        return ReadRows(tuple(blocks), unified_types(schemas), quarantine.num_rows)

    def _drop_what_is_of_other_rows(self, digest: str) -> None:
        """Delete what was made of rows that have been read anew since, as others.

        A file that changed while it kept size, time and both ends is the same to its
        fingerprint, not to the blocks that are compared with it.
        """
        stamp = self.work / "digest"
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
            return
        lead = _READ_NAME.partition("{")[0]
        for path in self.store.folder.iterdir():
            if not path.name.startswith(lead):
                path.unlink()
        write_whole(stamp, digest)

    def _spill_tasks(self) -> Iterator[SpillTask]:
        keep = tuple(raw_columns(self.data))
        for number, piece in enumerate(pieces_of(self.source)):
            name = _READ_NAME.format(number)
            yield SpillTask(self.store, name, piece, self.data, keep)


def _no_sound_row(num_bad: int, first: BadRow) -> DataError:
    return DataError(
        f"data.source must hold at least one sound row, but data.bad_rows=skip left "
        f"out all {num_bad:,}. {place(first.file, first.row)}: {first.reason}. Mend "
        f"the rows, or the setting that reads them."
    )
