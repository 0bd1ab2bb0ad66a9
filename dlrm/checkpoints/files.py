"""The files of a checkpoint: their names, their checksums, and how they are read."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dlrm.config.errors import DamagedError
from dlrm.config.strangers import parse_json
from dlrm.embeddings.state import USES
from dlrm.kernels.checksum import crc32_of_file

STATE_FILE = "state.json"
DENSE_FILE = "dense.safetensors"
TABLES = "tables"
OWN_CHECKSUM = "checksum"
"""In ``state.json``: of all else that it holds."""
ROW_STATES = "row_state_columns"
"""In ``state.json``, of a table whose ranges of columns have row-wise optimizer state
of their own: by the state's name, where the ranges start, and the table's width. Files
then hold it as [rows, ranges]."""
WEIGHT = "weight"
TRAINING = "training"
"""Beside ``WEIGHT``, where that is an average: the weights that training goes on with;
the dense tensors' names start with it."""


def quote_name(name: str) -> str:
    """Return a table's name as a file name that cannot leave its folder."""
    return urllib.parse.quote(name, safe="").replace(".", "%2E")


def rows_name(table: str, start: int, stop: int) -> str:
    """Return the name, inside the checkpoint, of the file of some rows of a table."""
    return f"{TABLES}/{quote_name(table)}/rows_{start}_{stop}.safetensors"


@dataclass(frozen=True, slots=True)
class TableRows:
    """Neighbouring rows of one table as a checkpoint holds them."""

    start: int
    stop: int
    columns: dict[str, torch.Tensor]
    """``weight`` and the optimizer state by canonical name, each [rows, ...]; beside
    them ``training`` and ``uses`` where there are such."""

    @property
    def optimizer(self) -> dict[str, torch.Tensor]:
        """The optimizer state alone."""
        others = (WEIGHT, TRAINING, USES)
        return {n: t for n, t in self.columns.items() if n not in others}


@dataclass(frozen=True, slots=True)
class RowsFile:
    """One file of a table's rows."""

    folder: Path
    """The checkpoint's."""
    name: str
    """Inside the checkpoint."""
    start: int
    stop: int

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open it: ``keys()`` are the columns, ``get_slice(name)[rows, columns]``.

        Raises:
            DamagedError: It is not as it was written.
        """
        try:
            with safe_open(self.folder / self.name, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise damaged(self.folder, self.name) from error

    def read(self) -> TableRows:
        """Read all of it.

        Raises:
            DamagedError: It is not as it was written.
        """
        with self.opened() as file:
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return TableRows(self.start, self.stop, columns)


def rows_files(folder: Path, table: str) -> list[RowsFile]:
    """Return a table's files in a checkpoint, by row; none where it has no such table.

    Raises:
        DamagedError: A file's name is none of a checkpoint's.
    """
    files = []
    for path in (folder / TABLES / quote_name(table)).glob("rows_*.safetensors"):
        name = str(path.relative_to(folder))
        try:
            start, stop = (int(part) for part in path.stem.split("_")[1:])
        except ValueError as error:
            raise damaged(folder, name) from error
        files.append(RowsFile(folder, name, start, stop))
    return sorted(files, key=lambda file: file.start)


def read_table(folder: Path, table: str) -> Iterator[TableRows]:
    """Read a table of a checkpoint file by file, from its first row on.

    Raises:
        DamagedError: A file is not as it was written.
    """
    for file in rows_files(folder, table):
        yield file.read()


def state_text(content: dict[str, Any]) -> str:
    """Return the text of ``state.json``: the content, and its own checksum."""
    return json.dumps({**content, OWN_CHECKSUM: _of_state(content)}, indent=2) + "\n"


def read_state_file(folder: Path) -> dict[str, Any]:
    """Return the content of ``state.json`` as it was written.

    Raises:
        DamagedError: It is missing, or is not what was written.
    """
    try:
        state = parse_json((folder / STATE_FILE).read_text(encoding="utf-8"))
        files, sizes = dict(state["files"]), dict(state.get("sizes", {}))
        own = state.pop(OWN_CHECKSUM, None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, STATE_FILE) from error
    # The first format had no checksum of the state itself.
    if own != _of_state(state) and state.get("format_version") != 1:
        raise damaged(folder, STATE_FILE)
    return {**state, "files": files, "sizes": sizes}


def _of_state(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def checksum(path: Path) -> str:
    """Return the checksum of a file's content, as ``state.json`` holds it."""
    return f"crc32:{crc32_of_file(path):08x}"


def damaged(folder: Path, name: str) -> DamagedError:
    """Return the error that names a checkpoint's damaged file."""
    return DamagedError(
        f"Checkpoint {folder} must be whole, but {name} is missing or damaged. "
        f"Training goes on from the checkpoint before it."
    )
