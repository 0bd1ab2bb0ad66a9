from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlrm.data.transforms.vocabulary as vocabulary_module
from dlrm.config.errors import DatasetError
from dlrm.config.features import Encoding, OutOfRange, SparseFeature
from dlrm.config.schema import FittedSparse
from dlrm.data.preparation.blocks import BlockStore, perform
from dlrm.data.preparation.counting import CountTask
from dlrm.data.preparation.merging import MergeTask
from dlrm.data.preparation.spill import NUM_BUCKETS, SpillTask, blocks_of
from dlrm.data.preparation.splits import TEST, TRAIN
from dlrm.data.sources.chunk import ReadChunk
from dlrm.data.transforms import value_counter
from dlrm.data.transforms.hashing import hash_texts
from dlrm.data.transforms.id_encoder import REFUSED, IdEncoder
from dlrm.data.transforms.vocabulary import (
    SHARED_ROW_KEY,
    Vocabulary,
    row_key_hashes,
    vocabulary_path,
)
from tests.data.raw import chunk, config


def fit(*chunks, min_frequency=1, num_embeddings=None, train=None):
    """Count as ``prepare`` does, the rows where ``train`` or all; load the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = sum(map(len, chunks))
        is_train = np.ones(size, bool) if train is None else np.array(train)
        codes = folder / "codes"
        codes.write_bytes(np.where(is_train, TRAIN, TEST).astype(np.int8).tobytes())
        store, all_hashes = BlockStore(folder), (0, NUM_BUCKETS)
        blocks = spilled(store, chunks)
        perform(
            CountTask(store, "part", ("t",), blocks, codes, all_hashes, min_frequency)
        )
        merging = MergeTask(
            store, "merged", "t", ("t",), ("part",), num_embeddings, folder
        )
        return Vocabulary.load(folder, "t", perform(merging)["num_known"] + 1)


def spilled(store, chunks):
    blocks, first = [], 0
    data = config(sparse={"t": SparseFeature()})
    for number, texts in enumerate(chunks):
        raw = chunk({"label": [0] * len(texts), "t": pa.array(texts, pa.string())})
        name = f"rows-{number}"
        result = perform(SpillTask(store, name, ReadChunk(raw), data, ()))
        blocks += blocks_of(store, name, result, first, ("sparse:t",))
        first += len(texts)
    return tuple(blocks)


texts = st.lists(st.text(alphabet="abé", max_size=3), max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(texts, max_size=4), st.integers(1, 3), st.integers(1, 6))
def test_rows_go_by_falling_count_then_by_key(chunks, min_frequency, size):
    counted = Counter(text for chunk in chunks for text in chunk)
    frequent = [key for key, n in counted.items() if n >= min_frequency]
    frequent.sort(key=lambda key: (-counted[key], key.encode()))
    found = fit(*chunks, min_frequency=min_frequency, num_embeddings=size)
    assert found.keys.to_pylist() == frequent[: size - 1]
    assert found.counts.tolist() == [counted[key] for key in frequent[: size - 1]]
    assert found.num_embeddings <= size
    rows = {key: row for row, key in enumerate(frequent[: size - 1], start=1)}
    wanted = [*counted, "unknown"]
    expected = [rows.get(key, 0) for key in wanted]
    assert found.rows_of(pa.array(wanted)).tolist() == expected


def test_counts_do_not_change_when_chunks_are_merged_often(monkeypatch):
    monkeypatch.setattr(value_counter, "loaded", lambda: None)
    monkeypatch.setattr(value_counter, "_MIN_PENDING", 2)
    found = fit(["a", "b", "a"], ["c", "d", "e"], ["a"], ["b", "c"])
    counts = dict(zip(found.keys.to_pylist(), found.counts.tolist(), strict=True))
    assert counts == {"a": 3, "b": 2, "c": 2, "d": 1, "e": 1}


def test_only_training_rows_are_counted():
    found = fit(["a", "b", "a"], train=[True, False, False])
    assert found.keys.to_pylist() == ["a"]
    assert found.counts.tolist() == [1]


def test_keys_of_one_hash_are_told_apart(monkeypatch):
    def poor_hash(texts):
        return np.array([len(t) for t in texts.to_pylist()], dtype=np.uint64)

    monkeypatch.setattr(vocabulary_module, "hash_texts", poor_hash)
    found = fit(["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["dd"])
    wanted = pa.array(["dd", "c", "x", "a", "b", "zz", ""])
    assert found.rows_of(wanted).tolist() == [4, 3, 0, 1, 2, 0, 0]


def test_a_vocabulary_survives_a_round_trip(tmp_path):
    stored = fit(["b", "a", "b", ""])
    stored.save(tmp_path, "t")
    found = Vocabulary.load(tmp_path, "t", 4)
    assert found.keys.to_pylist() == ["b", "", "a"]
    assert found.counts.tolist() == [2, 1, 1]
    assert found.rows_of(pa.array(["a", "z"])).tolist() == [3, 0]


def test_a_table_name_cannot_leave_the_folder(tmp_path):
    for table in ("../../x", "/etc/x", "a/b"):
        assert vocabulary_path(tmp_path, table).parent == tmp_path / "vocabularies"


def test_a_missing_damaged_or_wrong_vocabulary_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"t\.parquet"):
        Vocabulary.load(tmp_path, "t", 3)
    fit(["a", "b"]).save(tmp_path, "t")
    with pytest.raises(DatasetError, match="must hold 6 values, but it holds 2"):
        Vocabulary.load(tmp_path, "t", 7)
    vocabulary_path(tmp_path, "t").write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match=r"t\.parquet"):
        Vocabulary.load(tmp_path, "t", 3)


def test_row_keys_hash_the_key_and_keep_it_when_the_vocabulary_grows(tmp_path):
    fit(["a", "a", "b"]).save(tmp_path / "old", "t")
    fit(["c", "c", "c", "a", "a", "b"]).save(tmp_path / "new", "t")
    old = row_key_hashes(tmp_path / "old", "t", 3)
    new = row_key_hashes(tmp_path / "new", "t", 4)
    assert old.dtype == np.uint64
    assert old.tolist() == new[[0, 2, 3]].tolist()
    assert old.tolist() == hash_texts(pa.array([SHARED_ROW_KEY, "a", "b"])).tolist()


def test_row_keys_without_a_vocabulary_are_row_numbers(tmp_path):
    assert row_key_hashes(tmp_path, "t", 4).tolist() == [0, 1, 2, 3]


def encoder(encoding, policy, size=None, vocabulary=None):
    feature = SparseFeature(encoding=encoding, out_of_range=policy, num_embeddings=size)
    size = size or vocabulary.num_embeddings
    fitted = FittedSparse(name="x", feature=feature, table="t", num_embeddings=size)
    return IdEncoder(fitted, vocabulary)


def hash_row(text, size):
    return int(hash_texts(pa.array([text]))[0]) % size


def test_unknown_values_follow_the_policy_of_a_vocabulary():
    known = fit(["a", "a", "b"])
    values = pa.array(["b", "zzz", "a"])
    rows = {
        policy: encoder(Encoding.vocabulary, policy, vocabulary=known).encode(values)
        for policy in (OutOfRange.oov, OutOfRange.hash, OutOfRange.error)
    }
    assert rows[OutOfRange.oov].rows.tolist() == [2, 0, 1]
    assert rows[OutOfRange.hash].rows.tolist() == [2, 1 + hash_row("zzz", 2), 1]
    assert rows[OutOfRange.error].rows.tolist() == [2, REFUSED, 1]
    for found in rows.values():
        assert found.is_outside.tolist() == [False, True, False]


def test_a_vocabulary_of_nothing_sends_all_to_the_shared_row():
    for policy in (OutOfRange.oov, OutOfRange.hash):
        nothing = encoder(Encoding.vocabulary, policy, vocabulary=fit([]))
        assert nothing.encode(pa.array(["a", ""])).rows.tolist() == [0, 0]


def test_hash_rows_are_the_texts_hash_modulo_the_table_size():
    values = [str(n) for n in range(50)]
    found = encoder(Encoding.hash, OutOfRange.oov, 7).encode(pa.array(values))
    assert found.rows.tolist() == [hash_row(value, 7) for value in values]
    assert not found.is_outside.any()


IDS = ["0", "9", "10", "-1", str(2**63), str(-(2**63)), "9" * 5000, "", "3.0", "+4"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (OutOfRange.oov, [0, 9, 0, 0, 0, 0, 0, 0, 3, 4]),
        (OutOfRange.clamp, [0, 9, 9, 0, 9, 0, 9, 0, 3, 4]),
        (OutOfRange.error, [0, 9, -1, -1, -1, -1, -1, -1, 3, 4]),
        (
            OutOfRange.hash,
            [0, 9, *(hash_row(text, 10) for text in IDS[2:8]), 3, 4],
        ),
    ],
)
def test_identity_ids_of_any_size_and_sign_follow_the_policy(policy, expected):
    found = encoder(Encoding.identity, policy, 10).encode(pa.array(IDS))
    assert found.rows.tolist() == expected
    assert np.flatnonzero(found.is_outside).tolist() == [2, 3, 4, 5, 6, 7]


def test_identity_ids_at_the_ends_of_int64_do_not_wrap():
    ends = pa.array([str(2**63 - 1), str(-(2**63)), "5"])
    found = encoder(Encoding.identity, OutOfRange.clamp, 10).encode(ends)
    assert found.rows.tolist() == [9, 0, 5]
