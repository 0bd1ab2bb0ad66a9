"""Both ways to count give what a dictionary of Python counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm.data.transforms import value_counter as module
from dlrm.data.transforms.value_counter import value_counter
from dlrm.kernels.text_library import CodedTexts, loaded, order_by_hash

TEXT = st.one_of(st.text(max_size=20), st.integers(0, 30).map("{:08x}".format))
CHUNKS = st.lists(st.lists(st.tuples(TEXT, st.integers(0, 5)), max_size=40), max_size=6)
needs_library = pytest.mark.skipif(
    loaded() is None, reason="no C++ compiler built the library"
)


def counted(chunks: list[list[tuple[str, int]]]) -> tuple[list[int], dict[str, int]]:
    numbers: list[int] = []
    counter = value_counter(lambda found: numbers.extend(found.tolist()))
    for chunk in chunks:
        texts = pa.array([None, *(text for text, _ in chunk)], pa.string()).slice(1)
        counter.add_counts(texts, np.array([count for _, count in chunk], np.int32))
    found = counter.finish()
    assert found.column_names == ["key", "count"]
    return numbers, dict(zip(*found.to_pydict().values(), strict=True))


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
@given(chunks=CHUNKS)
def test_counts_are_sums_in_order_of_first_use(native, chunks):
    expected: dict[str, int] = {}
    for text, count in (pair for chunk in chunks for pair in chunk):
        expected[text] = expected.get(text, 0) + count
    places = {text: place for place, text in enumerate(expected)}
    with pytest.MonkeyPatch.context() as patch:
        if not native:
            patch.setattr(module, "loaded", lambda: None)
            patch.setattr(module, "_MIN_PENDING", 3)
        numbers, found = counted(chunks)
    assert list(found.items()) == list(expected.items())
    assert numbers == [places[text] for chunk in chunks for text, _ in chunk]


@needs_library
def test_a_table_grows_beyond_its_first_size():
    chunks = [[(f"{n * 7919 % 30_011:x}", 1) for n in range(k, k + 9_000)]
              for k in range(0, 60_000, 9_000)]  # fmt: skip
    _, found = counted(chunks)
    assert len(found) == 30_011
    assert sum(found.values()) == 63_000


@needs_library
@given(st.lists(TEXT, unique=True, max_size=60), st.randoms(use_true_random=False))
def test_a_dictionary_in_order_of_hash_says_the_same(texts, random):
    from dlrm.data.transforms.hashing import hash_texts

    codes = [random.randrange(len(texts)) for _ in range(50)] if texts else []
    stored = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, stored)], dtype=np.int32)
    data = np.frombuffer(b"".join(stored) or b" ", np.uint8)[: offsets[-1]]
    given_texts = CodedTexts(np.array(codes, np.int32), offsets, data)
    ordered = order_by_hash(given_texts)
    assert ordered is not None
    found, starts = ordered
    whole = found.data.tobytes()
    cuts = found.offsets.tolist()
    again = [whole[a:b].decode() for a, b in pairwise(cuts)]
    assert [again[code] for code in found.codes] == [texts[code] for code in codes]
    buckets = hash_texts(pa.array(texts, pa.string())) >> np.uint64(56)
    order = np.argsort(buckets, kind="stable")
    assert again == [texts[place] for place in order]
    assert (
        np.diff(starts).tolist()
        == np.bincount(buckets.astype(int), minlength=256).tolist()
    )


@needs_library
def test_texts_of_more_than_256_bytes_are_left_to_others():
    for size, taken in ((256, True), (257, False)):
        texts = CodedTexts(
            np.zeros(1, np.int32), np.array([0, size], np.int32),
            np.full(size, 97, np.uint8),
        )  # fmt: skip
        assert (order_by_hash(texts) is not None) == taken
