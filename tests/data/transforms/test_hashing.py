from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.data.transforms.hashing import hash_texts, splitmix64

MASK = 2**64 - 1


def splitmix_by_definition(number: int) -> int:
    z = (number + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def hash_by_definition(text: str) -> int:
    data = text.encode()
    if len(data) > 256:
        digest = hashlib.blake2b(data, digest_size=8).digest()
        return int.from_bytes(digest, "little")
    found = splitmix_by_definition(len(data))
    for start in range(0, len(data), 8):
        word = int.from_bytes(data[start : start + 8], "little")
        found = splitmix_by_definition(found ^ word)
    return found


def test_splitmix64_gives_the_published_sequence_of_seed_1234567():
    # The generator adds the golden gamma to its state before each mix.
    gamma = 0x9E3779B97F4A7C15
    states = [(1234567 + i * gamma) & MASK for i in range(3)]
    assert splitmix64(np.array(states, dtype=np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=12))
def test_hashes_of_any_texts_follow_the_definition(texts):
    found = hash_texts(pa.array(texts, pa.string()))
    assert found.tolist() == [hash_by_definition(text or "") for text in texts]


def test_hashes_of_texts_of_every_length_around_a_word_and_the_limit():
    texts = ["x" * n for n in (0, 1, 7, 8, 9, 15, 16, 17, 255, 256, 257, 1000)]
    expected = [hash_by_definition(text) for text in texts]
    assert hash_texts(pa.array(texts)).tolist() == expected


def test_a_slice_hashes_like_the_whole():
    texts = pa.array(["ab", "cde", "", "fghijklmnop", "é"])
    assert hash_texts(texts.slice(1, 3)).tolist() == hash_texts(texts)[1:4].tolist()


def test_zero_bytes_at_the_end_change_the_hash():
    a, b, c = hash_texts(pa.array(["a", "a\0", "a\0\0"])).tolist()
    assert len({a, b, c}) == 3
