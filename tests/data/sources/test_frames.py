"""A DataFrame that cannot be read is refused by the name of its column."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from dlrm.config.data import DataConfig, SourceFormat
from dlrm.config.errors import DataError
from dlrm.config.features import SparseFeature
from dlrm.data.sources import open_source

CONFIG = DataConfig(
    name="f",
    format=SourceFormat.table,
    label="y",
    sparse_features={"s": SparseFeature()},
)


@pytest.mark.parametrize("odd", [2**70, "\ud800", 1j, {1, 2}, object()])
def test_what_no_column_can_hold_names_its_column(odd: Any):
    frame = pd.DataFrame({"y": [0, 1], "s": pd.Series([1, odd], dtype=object)})
    with pytest.raises(DataError, match="column 's' cannot be read"):
        list(open_source(CONFIG, frame).chunks())


def test_a_needed_column_that_is_there_twice_is_refused():
    frame = pd.DataFrame([[0, "a", "b"]], columns=["y", "s", "s"])
    with pytest.raises(DataError, match="each needed column once, but it has 's' more"):
        open_source(CONFIG, frame)


def test_a_column_that_nobody_needs_may_be_there_twice():
    frame = pd.DataFrame([[0, "a", 1, 2]], columns=["y", "s", "t", "t"])
    (chunk,) = open_source(CONFIG, frame).chunks()
    assert chunk.table.to_pydict() == {"y": [0], "s": ["a"]}


def test_columns_named_by_numbers_are_found_by_their_text():
    config = DataConfig(
        name="f",
        format=SourceFormat.table,
        label="0",
        sparse_features={"s": SparseFeature(column="1")},
    )
    (chunk,) = open_source(config, pd.DataFrame([[1, "a"]])).chunks()
    assert chunk.table.to_pydict() == {"0": [1], "1": ["a"]}
