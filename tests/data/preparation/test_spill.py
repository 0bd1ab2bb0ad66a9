from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dlrm.config.features import SparseFeature
from dlrm.data.preparation.blocks import BlockStore, perform
from dlrm.data.preparation.spill import SpillTask, blocks_of, counted_columns
from dlrm.data.sources.chunk import ReadChunk
from tests.data.raw import chunk, config

QUIET_NAN, SIGNALING_NAN = 0x7FF8_0000_0000_0001, 0x7FF0_0000_0000_0001
FLOATS = {
    "whole numbers": [0.0, 1.0, -3.0, 2.0**24],
    "zeros of both signs": [0.0, -0.0],
    "missing ones": [1.0, float("nan")],
    "infinite ones": [float("inf"), -float("inf")],
    "more digits than float32 has": [1.0, 2.0**24 + 1],
    "too large for float32": [1.0, 1e300, -1e300],
    "too small for float32": [1.0, 1e-300, 5e-324],
}


@pytest.fixture
def come_back(tmp_path):
    """Return a function that sets a raw column aside and reads it again."""

    def read(values):
        data = config(sparse={"a": SparseFeature()})
        size = len(values)
        raw = chunk({"label": [0] * size, "a": ["x"] * size, "kept": values})
        task = SpillTask(BlockStore(tmp_path), "rows", ReadChunk(raw), data, ("kept",))
        result = perform(task)
        (block,) = blocks_of(task.store, "rows", result, 0, counted_columns(data))
        return block.column("raw:kept"), block.file.size("0/raw:kept")

    return read


def bits_of(column):
    return column.to_numpy().view(np.int64).tolist()


@pytest.mark.parametrize("name", FLOATS)
def test_floats_come_back_bit_for_bit(come_back, name):
    values = pa.array(FLOATS[name], pa.float64())
    column, _ = come_back(values)
    assert column.type == pa.float64()
    assert bits_of(column) == bits_of(values)


@pytest.mark.parametrize("nan", [QUIET_NAN, SIGNALING_NAN, QUIET_NAN | 1 << 63])
def test_every_bit_of_nan_comes_back(come_back, nan):
    bits = np.array([nan, 0], dtype=np.uint64)
    column, _ = come_back(pa.array(bits.view(np.float64)))
    assert column.to_numpy().view(np.uint64).tolist() == bits.tolist()


def test_floats_that_float32_holds_take_half_the_room(come_back):
    numbers = np.arange(10_000, dtype=np.float64)
    numbers[::7] = np.nan
    _, size = come_back(pa.array(numbers))
    _, whole_size = come_back(pa.array(numbers + 1e-9))
    assert size < 0.51 * whole_size


@pytest.mark.parametrize("count", [1, 256, 257, 65_536, 65_537])
def test_texts_come_back_however_many_there_are(come_back, count):
    texts = pa.array([f"{n:x}" for n in range(count)] * 2).dictionary_encode()
    lists = pa.ListArray.from_arrays(pa.array(range(2 * count + 1), pa.int32()), texts)
    column, _ = come_back(lists)
    assert column.equals(lists)


def test_numbers_and_lists_that_are_missing_come_back_so(come_back):
    numbers = pa.array([1.0, None, 2.0])
    assert come_back(numbers)[0].equals(numbers)
    coded = pa.list_(pa.dictionary(pa.int8(), pa.string()))
    lists = pa.array([["a", None], None, []], coded)
    assert come_back(lists)[0].equals(lists)
