"""Typed chunks set aside on disk, so that raw files are parsed once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class Spill:
    """Tables in the order they were written; each has dictionaries of its own."""

    def __init__(self, folder: Path) -> None:
        """Write into ``folder``, which must not exist."""
        folder.mkdir()
        self._folder = folder
        self._num_tables = 0
        self.schemas: list[pa.Schema] = []
        """Those that occur, each once."""

    def write(self, table: pa.Table) -> None:
        """Append a table."""
        path = self._path(self._num_tables)
        table = table.combine_chunks()
        with (
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, table.schema, options=_OPTIONS) as writer,
        ):
            writer.write_table(table)
        self._num_tables += 1
        if table.schema not in self.schemas:
            self.schemas.append(table.schema)

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield each table, memory-mapped."""
        for index in range(self._num_tables):
            with pa.memory_map(str(self._path(index)), "rb") as file:
                yield pa.ipc.open_file(file).read_all()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.arrow"
