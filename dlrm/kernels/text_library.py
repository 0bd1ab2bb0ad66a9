"""Delimited text to columns by native code, which needs no torch (``csrc_text``)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from dlrm.config.environment import read_environment

_INTERFACE = 3
_READ, _OUT_OF_MEMORY = 0, 4


class ColumnKind(Enum):
    """What a column's fields become."""

    number = "number"
    """float64, NaN where a field is empty."""
    text = "text"
    """Codes of a dictionary."""


@dataclass(frozen=True, slots=True)
class CodedTexts:
    """A column's texts: a code a row, texts in order of first use."""

    codes: np.ndarray
    """int32 [rows]"""
    offsets: np.ndarray
    """int32 [texts + 1]: where each text's bytes begin."""
    data: np.ndarray
    """uint8"""


@dataclass(frozen=True, slots=True)
class TextColumns:
    """Columns in the order in which they were asked for."""

    columns: tuple[np.ndarray | CodedTexts, ...]
    is_ascii: bool


class _Text(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_int64),
        ("num_rows", ctypes.c_int64),
        ("num_fields", ctypes.c_int32),
        ("num_nulls", ctypes.c_int32),
        ("nulls", ctypes.c_char_p),
        ("null_offsets", ctypes.c_void_p),
        ("separator", ctypes.c_ubyte),
    )


class _Column(ctypes.Structure):
    _fields_ = (
        ("field", ctypes.c_int32),
        ("numbers", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
    )


def reads_text() -> bool:
    """Say whether ``read_text`` ever reads anything."""
    return loaded() is not None


def read_text(
    data: bytes,
    *,
    separator: bytes,
    num_fields: int,
    num_rows: int,
    columns: Sequence[tuple[int, ColumnKind]],
    nulls: Sequence[bytes] = (),
) -> TextColumns | None:
    """Return columns by number of their field; None for what is not plain.

    ``data`` are whole rows without quotes, each with its line end. Plain are rows of
    ``num_fields`` each, ``num_rows`` of them, and numbers that are empty, one of
    ``nulls`` or spelled in decimal digits. None also where the library was not built.
    """
    library = loaded()
    if library is None:
        return None
    arrays = [
        np.empty(num_rows, np.float64 if kind is ColumnKind.number else np.int32)
        for _, kind in columns
    ]
    described = (_Column * len(columns))(
        *(
            _Column(field, address, None)
            if kind is ColumnKind.number
            else _Column(field, None, address)
            for (field, kind), address in zip(
                columns, (array.ctypes.data for array in arrays), strict=True
            )
        )
    )
    null_offsets = np.cumsum([0, *map(len, nulls)], dtype=np.int32)
    text = _Text(
        data,
        len(data),
        num_rows,
        num_fields,
        len(nulls),
        b"".join(nulls),
        null_offsets.ctypes.data,
        separator[0],
    )
    has_high_bytes, found = ctypes.c_int32(), ctypes.c_void_p()
    answer = library.dlrm_text_read(
        ctypes.byref(text),
        described,
        len(columns),
        ctypes.byref(has_high_bytes),
        ctypes.byref(found),
    )
    try:
        if answer == _OUT_OF_MEMORY:
            raise MemoryError(f"{len(data):,} bytes of text need more than there is")
        if answer != _READ:
            return None
        read = tuple(
            array if kind is ColumnKind.number else _coded(library, found, place, array)
            for place, ((_, kind), array) in enumerate(
                zip(columns, arrays, strict=True)
            )
        )
    finally:
        library.dlrm_text_free(found)
    return TextColumns(read, is_ascii=not has_high_bytes.value)


def _coded(
    library: ctypes.CDLL, found: ctypes.c_void_p, place: int, codes: np.ndarray
) -> CodedTexts:
    num_texts, num_bytes = ctypes.c_int64(), ctypes.c_int64()
    library.dlrm_text_sizes(
        found, place, ctypes.byref(num_texts), ctypes.byref(num_bytes)
    )
    offsets = np.empty(num_texts.value + 1, np.int32)
    data = np.empty(num_bytes.value, np.uint8)
    address = address_of(offsets)
    library.dlrm_text_copy(found, place, address, address_of(data))
    return CodedTexts(codes, offsets, data)


def count_lines(data: bytes, size: int) -> tuple[int, bool]:
    """Count the line ends among the first bytes; say whether a line is empty, too."""
    library = loaded()
    if library is None:
        ends = np.flatnonzero(np.frombuffer(data, np.uint8, size) == ord("\n"))
        return ends.size, bool((np.diff(ends, prepend=-1) == 1).any())
    has_blank = ctypes.c_int32()
    count = library.dlrm_text_lines(
        ctypes.c_char_p(data), ctypes.c_int64(size), ctypes.byref(has_blank)
    )
    return count, bool(has_blank.value)


def order_by_hash(texts: CodedTexts) -> tuple[CodedTexts, np.ndarray] | None:
    """Put texts in the order of the first byte of their hashes, otherwise as they came.

    Also returns int32 [257], where those of each byte start. None where a text is of
    more than 256 bytes, and without library.
    """
    library = loaded()
    if library is None:
        return None
    codes, offsets = texts.codes.copy(), np.empty_like(texts.offsets)
    data, starts = np.empty_like(texts.data), np.empty(257, np.int32)
    answer = library.dlrm_text_order(
        address_of(texts.offsets),
        address_of(texts.data),
        ctypes.c_int64(len(offsets) - 1),
        address_of(codes),
        ctypes.c_int64(len(codes)),
        address_of(starts),
        address_of(offsets),
        address_of(data),
    )
    if answer == 1:
        raise MemoryError(f"{len(data):,} bytes of text need more than there is")
    return (CodedTexts(codes, offsets, data), starts) if answer == 0 else None


def address_of(array: np.ndarray) -> ctypes.c_void_p:
    """Return where a contiguous array's numbers lie."""
    return ctypes.c_void_p(array.ctypes.data)


def hash_texts_natively(offsets: np.ndarray, data: np.ndarray) -> np.ndarray | None:
    """Return the uint64 hash of each text of at most 256 bytes; None without library.

    ``offsets`` are int64 [texts + 1] into ``data``, uint8.
    """
    library = loaded()
    if library is None:
        return None
    hashes = np.empty(len(offsets) - 1, np.uint64)
    library.dlrm_text_hash(
        address_of(offsets),
        address_of(data),
        ctypes.c_int64(hashes.size),
        address_of(hashes),
    )
    return hashes


@functools.cache
def loaded() -> ctypes.CDLL | None:
    """Return the library; None where it was not built, or is not to be used."""
    if not read_environment().native:
        return None
    for file in text_library_files():
        try:
            library = ctypes.CDLL(str(file))
            if library.dlrm_text_interface() != _INTERFACE:
                continue
        except (OSError, AttributeError):
            continue
        library.dlrm_text_free.argtypes = [ctypes.c_void_p]
        library.dlrm_text_lines.restype = ctypes.c_int64
        library.dlrm_counter_new.restype = ctypes.c_void_p
        library.dlrm_crc32.restype = ctypes.c_uint32
        return library
    return None


def text_library_files() -> list[Path]:
    """Return the built libraries beside this file, the newest first."""
    found = Path(__file__).parent.glob("_text.*so")
    return sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)
