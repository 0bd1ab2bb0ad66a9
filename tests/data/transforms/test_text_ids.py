"""Bags of text against fastText's dictionary, written out word by word."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.config.features import SparseFeature
from dlrm.config.schema import FittedSparse
from dlrm.config.text import TextOptions
from dlrm.data.columns.words import cut_words
from dlrm.data.transforms.text_ids import fnv1a, text_ids

NUM_KNOWN = 4
VOCABULARY = {"how": 1, "</s>": 2, "crêpe": 3}


def fnv(text):
    found = 2166136261
    for byte in text.encode():
        signed = byte - 256 if byte > 127 else byte
        found = ((found ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return found


def bag_of(words, text):
    """Return the ids that fastText's getLine makes, shifted to our rows."""
    bag, hashes = [], []
    for word in words:
        if word in VOCABULARY:
            bag.append(VOCABULARY[word])
        found = fnv(word)
        hashes.append(found - 2**32 if found >= 2**31 else found)
        if text.max_chars and word != "</s>":
            framed = f"<{word}>"
            for start in range(len(framed)):
                for size in range(text.min_chars, text.max_chars + 1):
                    stop = start + size
                    is_frame = size == 1 and (start == 0 or stop == len(framed))
                    if stop <= len(framed) and not is_frame:
                        bucket = fnv(framed[start:stop]) % text.num_buckets
                        bag.append(NUM_KNOWN + bucket)
    for start in range(len(hashes)):
        joined = hashes[start] % 2**64
        for word_hash in hashes[start + 1 : start + text.word_ngrams]:
            joined = (joined * 116049371 + word_hash) % 2**64
            bag.append(NUM_KNOWN + joined % text.num_buckets)
    return sorted(bag)


def our_bags(rows, text):
    flat = pa.array([word for row in rows for word in row], pa.string())
    words = flat.dictionary_encode()
    codes = words.indices.to_numpy()
    known = np.array([VOCABULARY.get(w, 0) for w in words.dictionary.to_pylist()])
    fitted = FittedSparse(
        name="text",
        feature=SparseFeature(multi_hot=True, text=text),
        table="text",
        num_embeddings=NUM_KNOWN + text.num_buckets,
    )
    word_rows = known.astype(np.int32)[codes] if codes.size else codes
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    ids, sizes = text_ids(fitted, words, word_rows, lengths)
    ends = np.cumsum(sizes)
    return [
        sorted(ids[end - size : end].tolist())
        for end, size in zip(ends, sizes, strict=True)
    ]


WORDS = st.sampled_from(["how", "to", "crêpe", "日本", "a", "œuf", "</s>", "<", ">>"])


@given(
    rows=st.lists(st.lists(WORDS, max_size=6), max_size=5),
    word_ngrams=st.integers(1, 4),
    chars=st.sampled_from([(0, 0), (1, 1), (1, 3), (3, 6), (2, 2)]),
    num_buckets=st.sampled_from([1, 7, 1000, 2_000_000]),
)
@settings(max_examples=150, deadline=None)
def test_bags_are_those_of_fasttexts_getline(rows, word_ngrams, chars, num_buckets):
    text = TextOptions(
        word_ngrams=word_ngrams,
        min_chars=chars[0],
        max_chars=chars[1],
        num_buckets=num_buckets,
    )
    assert our_bags(rows, text) == [bag_of(row, text) for row in rows]


def test_the_word_hash_is_fasttexts_own_value():
    # The published FNV-1a test vectors, and a byte above 127, which fastText widens
    # with its sign.
    assert fnv1a(pa.array(["", "a", "foobar"])).tolist() == [
        0x811C9DC5,
        0xE40C292C,
        0xBF9CF968,
    ]
    assert fnv1a(pa.array(["é"])).tolist() == [fnv("é")]


def test_words_are_cut_as_the_tutorial_does():
    options = TextOptions(lowercase=True, split_punctuation=True)
    cut = cut_words(pa.array(["Isn't it (so)?", None, " a\tb "]), options, "text")
    words = [[word for word in row if word] for row in cut.to_pylist()]
    assert words == [
        ["isn", "'", "t", "it", "(", "so", ")", "?", "</s>"],
        ["</s>"],
        ["a", "b", "</s>"],
    ]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"word_ngrams": 2}, "num_buckets"),
        ({"num_buckets": 5}, "num_buckets"),
        ({"min_chars": 4, "max_chars": 3, "num_buckets": 5}, "min_chars"),
        ({"word_ngrams": 0}, "word_ngrams"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, key):
    with pytest.raises(ValueError, match=rf"data.text.{key} must be"):
        TextOptions(**options).check("data.text")
