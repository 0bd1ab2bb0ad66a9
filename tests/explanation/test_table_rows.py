"""What is counted of a table's rows, on tables made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dlrm.explanation.table_rows import RowsSeen, expected_collisions, hash_rows


def seen(rows: np.ndarray, *cuts: int, untrained=None, padding=None) -> dict:
    """Describe a table that comes in parts."""
    found = RowsSeen()
    for part in np.split(np.arange(len(rows)), cuts):
        inside = padding is not None and padding in part
        found.add(
            rows[part],
            untrained=None if untrained is None else untrained[part],
            padding=padding - part[0] if inside else None,
        )
    return found.describe()


def table() -> np.ndarray:
    """Return nine rows: of norm 5, dead, tiny, exploding, not finite, and equal."""
    rows = np.array(
        [
            [3, 4], [4, 3], [-3, 4], [0, -0.0], [1e-4, 0], [300, 400], [np.nan, 1],
            [3, 4], [3, 4],
        ],
        dtype=np.float32,
    )  # fmt: skip
    return rows


@pytest.mark.parametrize("cuts", [(), (4,), (1, 2, 8)])
def test_dead_exploding_and_equal_rows_are_counted_however_they_come(cuts):
    found = seen(table(), *cuts)
    assert found["not_finite_rows"] == 1
    assert found["zero_rows"] == 1
    assert found["tiny_rows"] == 1
    assert found["large_rows"] == 1
    assert (found["duplicate_rows"], found["largest_duplicate_group"]) == (2, 3)
    assert found["norms"]["max"] == 500
    assert found["norms"]["median"] == 5
    assert found["never_trained"] is None
    assert found["trained_norms"] is None


def test_untrained_and_padding_rows_are_set_apart():
    rows = table()
    untrained = np.zeros(9, dtype=bool)
    untrained[[1, 2]] = True
    found = seen(rows, 4, untrained=untrained, padding=3)
    assert found["never_trained"] == 2
    assert found["zero_rows"] == 0
    trained = np.linalg.norm(rows[[0, 4, 5, 7, 8]], axis=1)
    assert found["trained_norms"]["median"] == pytest.approx(np.median(trained))
    assert found["norms"]["p25"] == pytest.approx(
        np.quantile(np.linalg.norm(rows[[0, 1, 2, 4, 5, 7, 8]], axis=1), 0.25)
    )


def test_the_effective_rank_is_that_of_the_singular_values():
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 6)).astype(np.float32) * [5, 3, 1, 1, 0.1, 0]
    rows = rows.astype(np.float32)
    singular = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    shares = singular[singular > 1e-9] / singular.sum()
    wanted = np.exp(-(shares * np.log(shares)).sum())
    assert seen(rows, 50)["effective_rank"] == pytest.approx(wanted, rel=1e-6)
    line = np.outer(np.arange(1, 9), [1, 2, 3]).astype(np.float32)
    assert seen(line)["effective_rank"] == pytest.approx(1.0, abs=1e-3)
    assert seen(np.zeros((3, 2), dtype=np.float32))["effective_rank"] is None


def test_rows_have_one_hash_where_they_are_equal_and_else_another():
    random = np.random.default_rng(0)
    rows = random.integers(0, 3, (5000, 5)).astype(np.float32)
    distinct = np.unique(rows, axis=0)
    assert np.unique(hash_rows(rows)).size == len(distinct)
    swapped = np.array([[1, 2], [2, 1]], dtype=np.float32)
    assert np.unique(hash_rows(swapped)).size == 2


@pytest.mark.parametrize("num_ids", [50, 1000, 3000])
def test_ids_and_their_collisions_are_told_from_the_rows_in_use(num_ids: int):
    buckets, random = 1000, np.random.default_rng(num_ids)
    ids, colliding = [], []
    for _ in range(40):
        row = random.integers(0, buckets, num_ids)
        counts = np.bincount(row, minlength=buckets)
        found = expected_collisions(int((counts > 0).sum()), buckets)
        assert found is not None
        ids.append(found["expected_ids"])
        colliding.append(found["share_of_ids_colliding"] - np.mean(counts[row] > 1))
    assert np.mean(ids) == pytest.approx(num_ids, rel=0.03)
    assert np.mean(colliding) == pytest.approx(0, abs=0.01)


def test_where_all_rows_or_none_are_in_use_nothing_is_told():
    assert expected_collisions(0, 10) is None
    assert expected_collisions(10, 10) is None
