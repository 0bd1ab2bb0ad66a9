"""``files.json``: what a prepared dataset consists of, so that damage is named."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dlrm.config.errors import DatasetError
from dlrm.config.strangers import parse_json
from dlrm.data.storage.layout import split_of_rows
from dlrm.kernels.checksum import crc32_of_file

MANIFEST_FILE = "files.json"
FORMAT_VERSION = 1
PREPARE_ANEW = "Delete the folder and run dlrm prepare again."


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and CRC-32 of one file as written."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Rows of each shard by split, and every file by its path in the dataset."""

    splits: dict[str, list[int]]
    files: dict[str, FileRecord]

    def save(self, folder: Path) -> None:
        """Write ``files.json``, forced to disk."""
        content = {
            "format_version": FORMAT_VERSION,
            "splits": self.splits,
            "files": {
                name: asdict(record) for name, record in sorted(self.files.items())
            },
        }
        with (folder / MANIFEST_FILE).open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read ``files.json``.

        Raises:
            DatasetError: It is missing, unreadable, of another version, or names a file
                outside the dataset.
        """
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise DatasetError(
                f"A prepared dataset must hold {MANIFEST_FILE}, but {folder} does not. "
                f"Check the path, or prepare the dataset with dlrm prepare."
            )
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
            version = content["format_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise _unreadable(path, error) from error
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"{path} must have format_version {FORMAT_VERSION}, but it has "
                f"{version}. {PREPARE_ANEW}"
            )
        try:
            return _rebuild(content)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise _unreadable(path, error) from error

    def verify(
        self, folder: Path, *, checksums: bool, split: str | None = None
    ) -> None:
        """Compare the files on disk with what was written.

        With ``split`` the checksums of other splits' rows are left out.

        Raises:
            DatasetError: A file is missing, of another size or, with ``checksums``,
                changed.
        """
        for name, record in self.files.items():
            _check_size(folder / name, record.size)
        if checksums:
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                read = (None, split)
                names = [
                    name
                    for name in self.files
                    if split is None or split_of_rows(name) in read
                ]
                paths = [folder / name for name in names]
                found = pool.map(crc32_of_file, paths)
                for name, path, crc in zip(names, paths, found, strict=True):
                    _check_crc32(path, crc, self.files[name].crc32)


def _rebuild(content: dict[str, Any]) -> Manifest:
    for name in (*content["files"], *content["splits"]):
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
            raise ValueError(f"{name!r} lies outside the dataset")
    splits = {
        name: [int(count) for count in counts]
        for name, counts in content["splits"].items()
    }
    files = {name: FileRecord(**record) for name, record in content["files"].items()}
    return Manifest(splits=splits, files=files)


def _unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"{path} must list the dataset's splits and files, but it does not "
        f"({type(error).__name__}: {error}). {PREPARE_ANEW}"
    )


def _check_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise DatasetError(
            f"The dataset must hold {path}, but the file is missing. {PREPARE_ANEW}"
        )
    size = path.stat().st_size
    if size != expected:
        raise DatasetError(
            f"{path} must be {expected} bytes, but it is {size}: the file is damaged. "
            f"{PREPARE_ANEW}"
        )


def _check_crc32(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise DatasetError(
            f"{path} must have CRC-32 {expected:08x}, but it has {found:08x}: the file "
            f"is damaged. {PREPARE_ANEW}"
        )
