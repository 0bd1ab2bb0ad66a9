from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dlrm.data.preparation.merging as merging
from dlrm.config.features import SparseFeature
from dlrm.data.preparation.blocks import BlockStore, perform
from dlrm.data.preparation.counting import CountTask, CutTask
from dlrm.data.preparation.merging import MergeTask, rows_section
from dlrm.data.preparation.spill import (
    NUM_BUCKETS,
    SpillTask,
    blocks_of,
    counted_columns,
)
from dlrm.data.sources.chunk import ReadChunk
from tests.data.raw import chunk, config

WORDS = [f"{'long-' * (n % 3)}{n:x}" for n in range(700)]


@pytest.fixture
def spilled(tmp_path):
    """Blocks of two features that share a table, and the texts of each row."""
    generator = np.random.default_rng(0)
    data = config(
        sparse={
            "a": SparseFeature(table="t"),
            "b": SparseFeature(table="t", multi_hot=True),
        }
    )
    store = BlockStore(tmp_path)
    blocks, rows, first = [], [], 0
    for number in range(4):
        texts = [WORDS[min(int(n), 699)] for n in generator.zipf(1.3, 150)]
        bags = [
            [WORDS[int(n)] for n in row] for row in generator.integers(0, 700, (50, 2))
        ]
        raw = chunk({"label": [0] * 50, "a": texts[:50], "b": bags})
        name = f"rows-{number}"
        result = perform(SpillTask(store, name, ReadChunk(raw), data, ()))
        blocks += blocks_of(store, name, result, first, counted_columns(data))
        rows += zip(texts[:50], bags, strict=True)
        first += 50
    codes = generator.integers(0, 2, first).astype(np.int8)
    (tmp_path / "codes").write_bytes(codes.tobytes())
    return store, tuple(blocks), rows, codes


def fit(spilled, ranges, folder, *, min_frequency=1, num_embeddings=None):
    store, blocks, _, _ = spilled
    names = []
    for low, high in ranges:
        task = CountTask(
            store,
            f"{folder.name}-{low}",
            ("a", "b"),
            blocks,
            store.folder / "codes",
            (low, high),
            min_frequency,
        )
        perform(task)
        names.append(task.name)
    task = MergeTask(
        store, folder.name, "t", ("a", "b"), tuple(names), num_embeddings, folder
    )
    return perform(task), store.open(folder.name)


@pytest.mark.parametrize(("least", "size"), [(1, None), (2, None), (1, 40), (3, 5)])
@pytest.mark.parametrize("num_parts", [1, 2, 7])
def test_vocabulary_and_rows_are_those_of_the_definition(
    spilled, tmp_path, monkeypatch, least, size, num_parts
):
    monkeypatch.setattr(merging, "_VALUES_AT_ONCE", 30)
    bounds = [NUM_BUCKETS * part // num_parts for part in range(num_parts + 1)]
    ranges = list(pairwise(bounds))
    result, file = fit(
        spilled, ranges, tmp_path / "v", min_frequency=least, num_embeddings=size
    )
    _, blocks, rows, codes = spilled
    counted: Counter[str] = Counter()
    for (text, bag), code in zip(rows, codes, strict=True):
        if code == 0:
            counted.update([text, *bag])
    known = sorted(
        (key for key, count in counted.items() if count >= least),
        key=lambda key: (-counted[key], key.encode()),
    )
    known = known if size is None else known[: size - 1]
    stored = pq.read_table(tmp_path / "v" / "vocabularies" / "t.parquet")
    assert stored["key"].to_pylist() == known
    assert stored["count"].to_pylist() == [counted[key] for key in known]
    assert result["num_values"] == len(counted)
    row_of = {key: row for row, key in enumerate(known, start=1)}
    for feature in ("a", "b"):
        found = file.numbers(rows_section(feature), np.int32).tolist()
        texts = [t for b in blocks for t in dictionary(b, feature).to_pylist()]
        assert found == [row_of.get(text, 0) for text in texts]


def dictionary(block, feature):
    column = block.column(f"sparse:{feature}")
    return (column.values if isinstance(column, pa.ListArray) else column).dictionary


def test_the_vocabulary_s_file_does_not_show_how_many_parts_there_were(
    spilled, tmp_path
):
    halves = [(0, 128), (128, 256)]
    for name, ranges in {"one": [(0, 256)], "two": halves}.items():
        fit(spilled, ranges, tmp_path / name)
    one, two = (
        (tmp_path / name / "vocabularies" / "t.parquet").read_bytes()
        for name in ("one", "two")
    )
    assert one == two


def test_little_memory_makes_many_parts_that_cover_all_buckets(spilled):
    store, blocks, _, _ = spilled

    def parts(memory_bytes):
        task = CutTask(store, "cut", ("a", "b"), blocks, memory_bytes)
        return perform(task)["parts"]

    assert [tuple(part) for part in parts(1 << 30)] == [(0, NUM_BUCKETS)]
    some = parts(10_000)
    assert len(some) > 1
    assert [low for low, _ in some] == [0, *[high for _, high in some[:-1]]]
    assert some[-1][1] == NUM_BUCKETS
