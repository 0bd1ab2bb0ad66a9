"""64-bit hashes of texts and numbers, the same on every platform and version.

Embedding rows of ``encoding=hash``, random splits and initial values hang on them, so
a change here changes what stored models mean. ``splitmix64`` is the one of Steele, Lea
and Flood, "Fast splittable pseudorandom number generators" (2014).
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from dlrm.kernels.text_library import hash_texts_natively

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MAX_VECTOR_BYTES = 256


def splitmix64(numbers: np.ndarray) -> np.ndarray:
    """Scramble uint64 numbers one to one; the argument is left as it is."""
    mixed: np.ndarray = numbers + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_texts(texts: pa.Array) -> np.ndarray:
    """Return the uint64 hash of each text's UTF-8 bytes; null counts as "".

    A text of at most 256 bytes starts from its length and takes in its bytes as
    little-endian 64-bit words, the last one filled with zeros, by
    h = splitmix64(h xor word). A longer one is the first 8 bytes of its BLAKE2b digest.
    """
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    starts, data = starts_of_texts(texts)
    hashes = hash_texts_natively(starts, data)
    if hashes is None:
        hashes = _hashed_words(texts)
    for long in np.flatnonzero(np.diff(starts) > _MAX_VECTOR_BYTES):
        text = texts[int(long)].as_py().encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        hashes[long] = int.from_bytes(digest, "little")
    return hashes


def _hashed_words(texts: pa.Array) -> np.ndarray:
    """Hash texts of at most 256 bytes as ``hash_texts`` says."""
    starts, data = _bytes_of(texts)
    lengths = np.diff(starts).astype(np.uint64)
    starts = starts[:-1]
    hashes = splitmix64(lengths)
    active = np.flatnonzero((lengths > 0) & (lengths <= _MAX_VECTOR_BYTES))
    position = 0
    while len(active):
        words = data[starts[active] + position]
        left = lengths[active] - np.uint64(position)
        unused_bits = np.uint64(64) - np.uint64(8) * np.minimum(left, np.uint64(8))
        words &= np.uint64(0xFFFFFFFFFFFFFFFF) >> unused_bits
        hashes[active] = splitmix64(hashes[active] ^ words)
        position += 8
        active = active[left > 8]
    return hashes


def leading_words(texts: pa.Array) -> np.ndarray:
    """Return uint64 numbers in the order of the texts' first 8 bytes, zeros after."""
    texts = texts.cast(pa.large_string())
    starts, data = _bytes_of(texts)
    lengths = np.minimum(np.diff(starts), 8).astype(np.uint64)
    # In big-endian words the first byte counts most, as it does in a text.
    words: np.ndarray = data[starts[:-1]].astype("<u8").byteswap()
    unused_bits = np.uint64(64) - np.uint64(8) * lengths
    # A shift by all 64 bits does nothing on x86.
    mask = np.where(
        lengths == 0,
        0,
        np.uint64(0xFFFFFFFFFFFFFFFF) << (np.minimum(unused_bits, np.uint64(63))),
    ).astype(np.uint64)
    words &= mask
    return words


def _bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return where each text starts, and the 64-bit word that starts at each byte."""
    starts, data = starts_of_texts(texts)
    padded = np.zeros(data.size + 8, dtype=np.uint8)
    padded[: data.size] = data
    words = np.ndarray((data.size + 1,), dtype="<u8", buffer=padded, strides=(1,))
    return starts, words


def starts_of_texts(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [texts + 1], where each text starts, and the bytes of them all."""
    _, offset_buffer, byte_buffer = texts.buffers()
    stop = texts.offset + len(texts) + 1
    if offset_buffer is None:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    starts = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : stop]
    first, last = int(starts[0]), int(starts[-1])
    if byte_buffer is None:
        return starts - first, np.zeros(0, dtype=np.uint8)
    return starts - first, np.frombuffer(byte_buffer, dtype=np.uint8)[first:last]
