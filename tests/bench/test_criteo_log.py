"""The made-up Criteo log has the real one's form, and depends on its size alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlrm.bench.criteo_log import CARDINALITIES, power_law_ranks, write_criteo_log


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    path = tmp_path_factory.mktemp("log") / "log.txt"
    write_criteo_log(path, num_rows=3000)
    text = path.read_text()
    assert text.endswith("\n")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


def test_every_line_is_a_label_13_counts_and_26_ids(lines: list[list[str]]):
    assert len(lines) == 3000
    assert {len(line) for line in lines} == {40}
    assert {line[0] for line in lines} == {"0", "1"}
    assert all(cell == "" or int(cell) >= 0 for line in lines for cell in line[1:14])
    ids = [cell for line in lines for cell in line[14:] if cell]
    assert {len(cell) for cell in ids} == {8}
    assert all(0 <= int(cell, 16) < 2**32 for cell in ids)


def test_some_counts_and_ids_are_missing(lines: list[list[str]]):
    counts = np.array([[cell == "" for cell in line[1:14]] for line in lines])
    ids = np.array([[cell == "" for cell in line[14:]] for line in lines])
    assert 0.1 < counts.mean() < 0.2
    assert 0.02 < ids.mean() < 0.06


def test_a_small_column_has_no_more_values_than_the_real_one(lines: list[list[str]]):
    for column, size in enumerate(CARDINALITIES):
        values = {line[14 + column] for line in lines} - {""}
        assert len(values) <= size
        if size < 20:
            assert len(values) == size


def test_a_log_is_a_function_of_its_size(tmp_path: Path):
    for name, rows in (("a", 100), ("b", 100), ("c", 200)):
        write_criteo_log(tmp_path / name, num_rows=rows)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert len(a.splitlines()) == 100
    assert len(c.splitlines()) == 200


def test_ranks_follow_the_power_law():
    draws = (np.arange(1_000_000) + 0.5) / 1_000_000
    ranks = power_law_ranks(draws, 50)
    assert (ranks.min(), ranks.max()) == (0, 49)
    # The density x ** -1.05 between k and k + 1, of all between 1 and 51.
    edges = np.arange(1, 52, dtype=float) ** -0.05
    expected = (edges[:-1] - edges[1:]) / (edges[0] - edges[-1])
    np.testing.assert_allclose(np.bincount(ranks) / 1e6, expected, atol=1e-5)


def test_a_lower_exponent_has_more_distinct_ids(tmp_path: Path):
    distinct = []
    for exponent in (1.05, 0.5):
        path = tmp_path / f"{exponent}.txt"
        write_criteo_log(path, num_rows=3000, exponent=exponent)
        ids = [line.split("\t")[14:] for line in path.read_text().splitlines()]
        distinct.append(sum(len(set(column)) for column in zip(*ids, strict=True)))
    assert distinct[0] < distinct[1]
