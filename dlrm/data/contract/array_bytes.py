"""Named arrays as bytes, and back: a header of JSON, then all numbers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

import numpy as np

_HEADER = struct.Struct("<Q")
_ALIGNMENT = 8
"""Numbers are read where they lie, and slowly where they lie askew."""


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return flat arrays with their names and types."""
    header = [[name, array.dtype.str, array.size] for name, array in arrays.items()]
    text = json.dumps(header).encode()
    parts = [_HEADER.pack(len(text))]
    for data in (text, *(array.tobytes() for array in arrays.values())):
        parts += [data, bytes(_padding(len(data)))]
    return b"".join(parts)


def from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """Return what ``to_bytes`` was given, read-only."""
    (size,) = _HEADER.unpack_from(data)
    text = data[_HEADER.size : _HEADER.size + size]
    start = _HEADER.size + size + _padding(size)
    arrays = {}
    for name, kind, count in json.loads(text):
        array = np.frombuffer(data, kind, count, start)
        arrays[name] = array
        start += array.nbytes + _padding(array.nbytes)
    return arrays


def _padding(size: int) -> int:
    return -size % _ALIGNMENT
