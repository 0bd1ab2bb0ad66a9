from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm.data.loading.order import RowOrder


def order(num_rows, *, seed=0, memory=1000, shuffle=True):
    return RowOrder(num_rows, seed=seed, shuffle=shuffle, max_rows_in_memory=memory)


@given(
    num_rows=st.integers(0, 300),
    memory=st.integers(1, 400),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 5),
)
def test_an_epoch_visits_every_row_once(num_rows, memory, seed, epoch):
    rows = order(num_rows, seed=seed, memory=memory).rows(epoch, 0, num_rows)
    assert sorted(rows.tolist()) == list(range(num_rows))
    assert rows.dtype == np.int64


@given(
    memory=st.integers(1, 250),
    cuts=st.lists(st.integers(0, 200), min_size=1, max_size=6),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_a_position_has_the_same_row_however_it_is_reached(
    memory, cuts, epoch, shuffle
):
    whole = order(200, memory=memory, shuffle=shuffle).rows(epoch, 0, 200)
    visited = order(200, memory=memory, shuffle=shuffle)
    for low, high in pairwise(cuts):
        low, high = min(low, high), max(low, high)
        visited.rows(epoch + 1, 0, 3)
        assert visited.rows(epoch, low, high).tolist() == whole[low:high].tolist()


@pytest.mark.parametrize("memory", [1000, 64])
def test_seeds_and_epochs_draw_different_orders(memory):
    drawn = {
        tuple(order(500, seed=seed, memory=memory).rows(epoch, 0, 500).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(drawn) == 4


def test_an_exact_order_is_numpys_shuffle_under_philox_keyed_by_seed_and_epoch():
    expected = np.arange(100, dtype=np.uint32)
    key = np.array([3, 7], dtype=np.uint64)
    np.random.Generator(np.random.Philox(key=key)).shuffle(expected)
    assert order(100, seed=3).rows(7, 0, 100).tolist() == expected.tolist()


def test_every_row_is_equally_likely_at_a_position_of_an_exact_order():
    firsts = np.bincount(
        [order(4, seed=seed).rows(0, 0, 1)[0] for seed in range(4000)], minlength=4
    )
    # Four standard deviations of a binomial with 4,000 draws at 1/4.
    assert np.all(np.abs(firsts - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75))


def test_a_group_holds_whole_blocks_and_mixes_them():
    blocks = order(1000, memory=64)
    assert (blocks.block_rows, blocks.blocks_per_group) == (4, 16)
    group = blocks.rows(0, 0, 64)
    touched = sorted({row // 4 for row in group.tolist()})
    assert sorted(group.tolist()) == [4 * b + i for b in touched for i in range(4)]
    assert len(touched) == 16
    assert touched != list(range(16))
    neighbours = np.count_nonzero(np.diff(group) == 1)
    assert neighbours < 10  # 48 if blocks stayed whole, about 1 by chance


def test_without_shuffling_rows_come_in_file_order():
    assert order(10, shuffle=False).rows(4, 2, 6).tolist() == [2, 3, 4, 5]


def test_positions_outside_the_epoch_are_refused():
    for shuffle in (True, False):
        with pytest.raises(IndexError, match=r"\[0, 10\], but they are \[5, 11\)"):
            order(10, shuffle=shuffle).rows(0, 5, 11)


def test_the_kind_of_order_is_described():
    assert order(1000, seed=5).describe() == (
        "1,000 rows, shuffled exactly each epoch (seed 5)"
    )
    assert order(10_000, memory=3200).describe() == (
        "10,000 rows, shuffled each epoch in blocks of 200 rows through a buffer of 16 "
        "blocks (seed 0)"
    )
    assert order(7, shuffle=False).describe() == "7 rows in file order"


def test_a_buffer_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="must be >= 1, not 0"):
        order(10, memory=0)
    assert order(3, memory=0, shuffle=False).rows(0, 0, 3).tolist() == [0, 1, 2]
