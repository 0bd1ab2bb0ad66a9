"""The bytes of a remote file, asked for again where the connection drops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dlrm.config.errors import DataError, InstallationError
from dlrm.data.sources.remote import (
    RemoteFile,
    describe,
    one_line,
    open_filesystem,
    unreadable,
)

PIECE_BYTES = 4 << 20
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5
"""Before the second attempt; each further pause is twice as long."""
_PARTIAL_CONTENT = 206
_REFUSALS = (DataError, InstallationError, FileNotFoundError, PermissionError)


class _EndedEarlyError(Exception):
    """A server closed the connection in good order before the last byte."""


def fetch(file: RemoteFile) -> Iterator[bytes]:
    """Yield a file's bytes from the first to the last.

    After a failure it goes on where it was, at most ``ATTEMPTS`` times at one place.

    Raises:
        DataError: The file is gone, has changed or cannot be read to its end.
    """
    position, failures = 0, 0
    while True:
        try:
            for piece in _pieces(file, position):
                position += len(piece)
                failures = 0
                yield piece
            if file.size is not None and position < file.size:
                raise _EndedEarlyError(f"{position} of {file.size} bytes came")
            return
        except _REFUSALS as error:
            raise unreadable(file.url, error) from error
        except Exception as error:
            failures += 1
            _pause_or_refuse(file, error, failures, position)


def fetch_range(file: RemoteFile, start: int, stop: int) -> bytes | None:
    """Return some bytes alone; None where the server only gives files from the start.

    Raises:
        DataError: They cannot be read.
    """
    failures = 0
    while True:
        try:
            if not file.is_http:
                filesystem, path = open_filesystem(file.url)
                return bytes(filesystem.cat_file(path, start=start, end=stop))
            return _web_range(file, start, stop)
        except _REFUSALS as error:
            raise unreadable(file.url, error) from error
        except Exception as error:
            failures += 1
            _pause_or_refuse(file, error, failures, start)


def _pieces(file: RemoteFile, position: int) -> Iterator[bytes]:
    if file.is_http:
        yield from _web_pieces(file, position)
        return
    filesystem, path = open_filesystem(file.url)
    while file.size is None or position < file.size:
        piece = filesystem.cat_file(path, start=position, end=position + PIECE_BYTES)
        if not piece:
            return
        position += len(piece)
        yield piece


def _web_pieces(file: RemoteFile, position: int) -> Iterator[bytes]:
    """Yield what follows ``position`` of one answer, which is never held whole."""
    with _web_answer(file, f"bytes={position}-" if position else None) as answer:
        to_skip = 0 if answer.r.status == _PARTIAL_CONTENT else position
        while piece := answer.read(PIECE_BYTES):
            skipped = min(to_skip, len(piece))
            to_skip -= skipped
            if skipped < len(piece):
                yield piece[skipped:]


def _web_range(file: RemoteFile, start: int, stop: int) -> bytes | None:
    with _web_answer(file, f"bytes={start}-{stop - 1}") as answer:
        if answer.r.status != _PARTIAL_CONTENT:
            return None
        data = b""
        while piece := answer.read(PIECE_BYTES):
            data += piece
    whole = stop if file.size is None else min(stop, file.size)
    if len(data) != whole - start:
        raise _EndedEarlyError(f"{len(data)} of {whole - start} bytes came")
    return data


def _web_answer(file: RemoteFile, byte_range: str | None) -> Any:
    filesystem, path = open_filesystem(file.url)
    # Packed on the way, a file would not have the size that the server told.
    headers = {"Accept-Encoding": "identity"}
    if byte_range is not None:
        headers["Range"] = byte_range
    return filesystem.open(path, "rb", block_size=0, headers=headers)


def _pause_or_refuse(
    file: RemoteFile, error: Exception, failures: int, position: int
) -> None:
    status = getattr(error, "status", None)
    final = status is not None and 400 <= status < 500 and status not in (408, 429)
    if final or failures >= ATTEMPTS:
        tries = "" if final else f" {ATTEMPTS} times"
        raise DataError(
            f"{file.url} must be readable to its end, but it failed{tries} at byte "
            f"{position:,} ({one_line(error)}). Check the network and run this again."
        ) from error
    time.sleep(FIRST_PAUSE_SECONDS * 2 ** (failures - 1))
    if position and describe(file.url) != file:
        raise DataError(
            f"{file.url} must stay as it is while it is read, but it has changed. Run "
            "this again once it is whole."
        )
