"""The CRC-32 of bytes, at the speed of memory where the processor can."""

from __future__ import annotations

import ctypes
import sys
import zlib
from pathlib import Path

import numpy as np

from dlrm.kernels.text_library import address_of, loaded

_NATIVE_BYTES = 1 << 14
"""From so many on, native code gains more than its call costs, about 2 microseconds."""
_READ_BYTES = 1 << 19
"""Few enough to be in the processor's cache when they are counted."""


def crc32(data: bytes | bytearray | memoryview | np.ndarray, value: int = 0) -> int:
    """Return ``zlib.crc32`` of a contiguous buffer, going on from ``value``.

    Other threads run meanwhile.

    Raises:
        ValueError: The buffer is an array that is not contiguous.
        BufferError: It is a view that is not contiguous.
    """
    view = np.frombuffer(data, np.uint8)
    library = loaded() if view.size >= _NATIVE_BYTES else None
    if library is None or not library.dlrm_crc32_is_fast():
        return zlib.crc32(view.data, value)
    return library.dlrm_crc32(
        ctypes.c_uint32(value), address_of(view), ctypes.c_int64(view.size)
    )


def crc32_of_file(path: Path) -> int:
    """Return the CRC-32 of all that a file holds."""
    value, _ = _read(path, 0, sys.maxsize)
    return value


def crc32_of_part(path: Path, start: int, size: int) -> int | None:
    """Return the CRC-32 of ``size`` bytes from ``start``; None where some lack."""
    value, num_read = _read(path, start, size)
    return value if num_read == size else None


def _read(path: Path, start: int, size: int) -> tuple[int, int]:
    """Return the CRC-32 of up to ``size`` bytes, and how many they are.

    Read, not mapped: pages of a map would count as memory of this process.
    """
    value = num_read = 0
    buffer = memoryview(bytearray(min(size, _READ_BYTES)))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while count := file.readinto(buffer[: size - num_read]):
            value = crc32(buffer[:count], value)
            num_read += count
    return value, num_read
