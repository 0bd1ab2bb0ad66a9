"""Words -> ids: those of the vocabulary, then n-grams hashed into shared buckets.

The hashes are fastText's own (its ``dictionary.cc``), quirks included, so that a bag
here is the bag there: FNV-1a over bytes that are widened with their sign, and word
hashes that are widened with theirs before they are joined.

Shape suffixes: R = rows, V = words of all rows, K = distinct words, C = characters of
all distinct words.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.schema import FittedSparse
from dlrm.config.text import TextOptions
from dlrm.data.columns.words import END_OF_LINE
from dlrm.data.storage.rows import starts_of
from dlrm.data.storage.split_rows import gather_ragged

_FNV_START = np.uint32(2166136261)
_FNV_PRIME = np.uint32(16777619)
_NGRAM_PRIME = np.uint64(116049371)


def text_ids(
    fitted: FittedSparse,
    words: pa.DictionaryArray,
    word_rows: np.ndarray,
    lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of each row's bag and its length: int32, and int32 [R].

    ``words`` [V] are all rows' words, ``lengths`` [R] how many each row has, and
    ``word_rows`` [V] their ids, 0 for unknown ones, which are left out.
    """
    text = fitted.feature.text
    assert text is not None
    row_of_word = np.repeat(np.arange(lengths.size), lengths)
    known = word_rows > 0
    rows, ids = [row_of_word[known]], [word_rows[known]]
    for row_of_ngram, bucket in _ngrams(text, words, row_of_word, lengths):
        rows.append(row_of_ngram)
        ids.append(fitted.num_known + bucket)
    all_rows = np.concatenate(rows)
    by_row = np.argsort(all_rows, kind="stable")
    return (
        np.concatenate(ids)[by_row].astype(np.int32),
        np.bincount(all_rows, minlength=lengths.size).astype(np.int32),
    )


def _ngrams(
    text: TextOptions,
    words: pa.DictionaryArray,
    row_of_word: np.ndarray,
    lengths: np.ndarray,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (row, bucket) pairs of character and word n-grams."""
    codes = words.indices.to_numpy()
    found = []
    if text.max_chars:
        starts, buckets = char_ngrams(words.dictionary, text)
        counts = np.diff(starts)[codes]
        found.append(
            (
                np.repeat(row_of_word, counts),
                gather_ragged(buckets, starts[codes], counts),
            )
        )
    if text.word_ngrams > 1:
        hashes = fnv1a(words.dictionary)[codes]
        index, buckets = word_ngrams(hashes, lengths, text)
        found.append((row_of_word[index], buckets))
    return found


def word_ngrams(
    hashes: np.ndarray, lengths: np.ndarray, text: TextOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first word [*] and the bucket [*] of each run of 2 words and more.

    The words w1, w2, ... of a run have the hash (h(w1) p + h(w2)) p + ... in 64 bits.
    """
    wide = hashes.view(np.int32).astype(np.int64).view(np.uint64)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(hashes.size)
    starts, buckets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    joined = wide.copy()
    for distance in range(1, text.word_ngrams):
        first = np.flatnonzero(left > distance)
        joined[first] = joined[first] * _NGRAM_PRIME + wide[first + distance]
        starts.append(first)
        bucket = joined[first] % np.uint64(text.num_buckets)
        buckets.append(bucket.astype(np.int64))
    return np.concatenate(starts), np.concatenate(buckets)


def char_ngrams(words: pa.Array, text: TextOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets of each distinct word's n-grams, and int64 [K + 1] starts.

    An n-gram is of whole characters of ``<word>``; ``<`` and ``>`` alone are none, and
    the end of a line has none.
    """
    is_end = pc.equal(words, END_OF_LINE).to_numpy(zero_copy_only=False)
    framed = pc.binary_join_element_wise("<", words, ">", "")
    starts, data = _bytes_of(framed)
    first_byte_C = np.flatnonzero((data & 0xC0) != 0x80)
    num_bytes_C = np.diff(np.append(first_byte_C, data.size))
    word_C = np.searchsorted(starts, first_byte_C, side="right") - 1
    num_chars = np.bincount(word_C, minlength=len(words))
    place_C = np.arange(word_C.size) - starts_of(num_chars)[word_C]
    left_C = num_chars[word_C] - place_C
    hash_C = np.full(word_C.size, _FNV_START)
    found_words, found_buckets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in range(1, text.max_chars + 1):
        active = np.flatnonzero(left_C >= size)
        last = active + size - 1
        for offset in range(int(num_bytes_C.max(initial=0))):
            inside = num_bytes_C[last] > offset
            byte = data[first_byte_C[last[inside]] + offset]
            hash_C[active[inside]] = _fnv_step(hash_C[active[inside]], byte)
        if size < text.min_chars:
            continue
        frame = (size == 1) & ((place_C[active] == 0) | (left_C[active] == 1))
        kept = active[~frame & ~is_end[word_C[active]]]
        found_words.append(word_C[kept])
        found_buckets.append((hash_C[kept] % np.uint32(text.num_buckets)).astype("i8"))
    owner = np.concatenate(found_words)
    by_word = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(words))
    return starts_of(counts), np.concatenate(found_buckets)[by_word]


def fnv1a(texts: pa.Array) -> np.ndarray:
    """Return fastText's 32-bit FNV-1a hash of each text, uint32 [K]."""
    starts, data = _bytes_of(texts)
    hashes = np.full(len(texts), _FNV_START)
    lengths = np.diff(starts)
    for position in range(int(lengths.max(initial=0))):
        active = np.flatnonzero(lengths > position)
        byte = data[starts[active] + position]
        hashes[active] = _fnv_step(hashes[active], byte)
    return hashes


def _fnv_step(hashes: np.ndarray, byte: np.ndarray) -> np.ndarray:
    signed = byte.view(np.int8).astype(np.int32).view(np.uint32)
    stepped: np.ndarray = (hashes ^ signed) * _FNV_PRIME
    return stepped


def _bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return where each text starts, int64 [K + 1], and all texts' bytes, uint8."""
    encoded = pa.concat_arrays([texts.cast(pa.large_binary())])
    _, offsets, data = encoded.buffers()
    if len(encoded) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    starts = np.frombuffer(offsets, np.int64)[encoded.offset :][: len(encoded) + 1]
    if data is None:
        return np.zeros_like(starts), np.zeros(0, np.uint8)
    content = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]]
    return starts - starts[0], content
