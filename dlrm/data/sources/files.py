"""Which files a source names, how to open them, and what identifies them."""

from __future__ import annotations

import difflib
import glob
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from dlrm.config.errors import DataError
from dlrm.data.sources.remote import RemoteFile, find_remote, is_remote

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
_ARCHIVES = {
    b"PK\x03\x04": ("a zip archive", "unzip"),
    b"BZh": ("bzip2-compressed", "bunzip2"),
    b"\xfd7zXZ": ("xz-compressed", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstandard-compressed", "unzstd"),
}
_ENDS_BYTES = 1 << 20


def resolve_files(source: str | None, *, key: str = "data.source") -> list[Path]:
    """List the files that ``source`` names: files, folders or globs, split by ``;``.

    A folder gives its visible files, not those of its subfolders. Each part's files are
    in natural order (``day_2`` before ``day_10``); parts stay in the order given. A
    part may be a URL, whose files are brought when they are read.

    Raises:
        DataError: A part is empty, does not exist or matches nothing.
        InstallationError: The package that reads such URLs is missing.
    """
    parts = [part.strip() for part in (source or "").split(";") if part.strip()]
    if not parts:
        raise DataError(
            f"{key} must name the raw data: a file, a folder or a glob, but it is not "
            f"set. Add {key}=PATH to the command."
        )
    files: list[Path] = []
    for part in parts:
        files += [file for file in _resolve_part(part, key) if file not in files]
    return files


def _resolve_part(part: str, key: str) -> list[Path]:
    if is_remote(part):
        # Here, as most sources are local.
        from dlrm.data.sources.remote_path import RemotePath

        found: list[Path] = [RemotePath(f) for f in find_remote(part, key=key)]
        return sorted(found, key=natural_order)
    path = Path(part).expanduser()
    if path.is_dir():
        files = [f for f in path.iterdir() if f.is_file() and f.name[0] not in "._"]
        if not files:
            raise DataError(
                f"{key} must hold data files, but the folder {part} has none."
            )
        return sorted(files, key=natural_order)
    if path.exists():
        return [_readable_again(path, key)]
    if glob.has_magic(part):
        matches = [Path(f) for f in glob.glob(str(path), recursive=True)]
        files = [f for f in matches if f.is_file()]
        if not files:
            raise DataError(
                f"{key} must match at least one file, but {part} matches none."
            )
        return sorted(files, key=natural_order)
    raise missing_file(path, key=key)


def _readable_again(path: Path, key: str) -> Path:
    """Refuse pipes and devices: rows are read more than once, and these never end."""
    if path.is_file():
        return path
    raise DataError(
        f"{key} must name files, which can be read more than once, but {path} is "
        f"{'a pipe' if path.is_fifo() else 'none'}. Write its rows to a file, and name "
        f"that."
    )


def missing_file(path: Path, *, key: str) -> DataError:
    """Describe a path that does not exist by the nearest names beside it."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    message = f"{key} must name an existing path, but {path} does not exist."
    names = (
        sorted(entry.name for entry in folder.iterdir()) if _readable(folder) else []
    )
    wanted = path.relative_to(folder).parts[0]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if near:
        return DataError(f"{message} In {folder} there is {', '.join(near)}.")
    some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return DataError(f"{message} The folder {folder} holds {some or 'nothing'}.")


def _readable(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)
    except OSError:
        return False
    return True


def natural_order(path: Path) -> tuple[str, list[tuple[int, int, str]]]:
    """Sort key by which ``day_2`` comes before ``day_10``."""
    pieces = re.split(r"(\d+)", path.name)
    keys = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces if p]
    return str(path.parent), keys


def read_magic(path: Path) -> bytes:
    """Return the first bytes of a file, which say how it is packed.

    Raises:
        DataError: The file cannot be read, or is packed in a way that is not supported.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(6)
    except OSError as error:
        raise DataError(f"{path} must be readable, but: {error.strerror}.") from error
    for start, (what, command) in _ARCHIVES.items():
        if magic.startswith(start):
            raise DataError(
                f"{path} must be plain or gzip-compressed, but it is {what}. Unpack it "
                f"with {command}, and name what comes out."
            )
    return magic


class InputFile:
    """A file read from the start, decompressed where it is gzip."""

    def __init__(self, path: Path) -> None:
        """Open ``path``; the magic bytes, not the name, say whether it is gzip."""
        packed = read_magic(path).startswith(GZIP_MAGIC)
        self._path = path
        self._raw = path.open("rb")
        self._stream = (
            cast(
                "BinaryIO", io.BufferedReader(gzip.GzipFile(fileobj=self._raw), 1 << 20)
            )
            if packed
            else cast("BinaryIO", self._raw)
        )

    def read(self, num_bytes: int) -> bytes:
        """Return up to ``num_bytes``; fewer only at the end.

        Raises:
            DataError: The compressed data is damaged or ends early.
        """
        try:
            return self._stream.read(num_bytes)
        except EOFError as error:
            raise DataError(
                f"{self._path} must be a whole gzip file, but it ends early. Copy or "
                "download it again."
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{self._path} must be a sound gzip file, but it is damaged ({error}). "
                "Copy or download it again."
            ) from error
        except OSError as error:
            raise DataError(f"{self._path} must be readable, but: {error}.") from error

    def position(self) -> int:
        """Return how many bytes of the file on disk have been read."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._raw.close()

    def __enter__(self) -> InputFile:
        """Return the open file."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()


def total_bytes(files: Sequence[Path]) -> int:
    """Return the size of all files on disk, at least 1."""
    return max(1, sum(file.stat().st_size for file in files))


def file_identity(path: Path) -> dict[str, Any]:
    """Return name, size, time of change and a hash of the first and last MiB.

    The folder does not count: a file is itself however its path was typed.

    Hashing whole files would cost a pass over a terabyte; an edit that keeps size,
    time and both ends goes unseen. A remote file is what its server says that it is.
    """
    remote: RemoteFile | None = getattr(path, "file", None)
    if remote is not None and remote.size is not None and remote.version is not None:
        return {"file": path.name, "size": remote.size, "version": remote.version}
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        digest.update(raw.read(_ENDS_BYTES))
        if stat.st_size > _ENDS_BYTES:
            raw.seek(max(_ENDS_BYTES, stat.st_size - _ENDS_BYTES))
            digest.update(raw.read(_ENDS_BYTES))
    return {
        "file": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256_ends": digest.hexdigest(),
    }
