from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.config.data import DataConfig, SourceFormat, Split, TableSource
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.sources import open_source
from tests.data.raw import number


def config(source=None, **settings):
    return DataConfig(
        name="t",
        format=SourceFormat.table,
        source=None if source is None else str(source),
        label="clicked",
        dense_features={"price": DenseFeature()},
        sparse_features={"shop": SparseFeature(column="shop.name")},
        **settings,
    )


def rows(source):
    return pa.concat_tables(chunk.table for chunk in source.chunks()).to_pydict()


def test_only_named_columns_are_read(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(
        "id\tclicked\tshop.name\tprice\tnote\n1\t0\ta\t2.5\tx\n2\t1\tb\tNA\ty\n"
    )
    data = config(path, table=TableSource(separator="tab"), id_column="id")
    found = rows(open_source(data))
    assert list(map(number, found.pop("price"))) == [2.5, None]
    assert found == {"clicked": ["0", "1"], "id": ["1", "2"], "shop.name": ["a", "b"]}


def test_rows_to_be_scored_need_no_label(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("shop.name,price\na,1\n")
    with pytest.raises(DataError, match=r"the column 'clicked' \(data\.label\)"):
        list(open_source(config(path)).chunks())
    scored = open_source(config(path), with_labels=False)
    found = rows(scored)
    assert found == {"price": found["price"], "shop.name": ["a"]}
    assert list(map(number, found["price"])) == [1]


def test_the_wrong_separator_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("clicked|price|shop.name\n1|2|a\n")
    with pytest.raises(DataError, match=r"set data\.table\.separator=pipe"):
        list(open_source(config(path)).chunks())


def test_parquet_keeps_types_lists_and_dotted_names(tmp_path):
    table = pa.table(
        {
            "clicked": [0, 1, 1],
            "price": [1.5, None, 2.0],
            "shop.name": ["a", None, "b"],
            "tags": [[1, 2], [], None],
            "odds": [[0.5, 1.0], [], None],
            "shop": [9, 9, 9],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    data = config(tmp_path)
    data.sparse_features["tags"] = SparseFeature(multi_hot=True, weight_column="odds")
    source = open_source(data)
    found = pa.concat_tables(chunk.table for chunk in source.chunks())
    assert found.equals(table.select(["clicked", "price", "shop.name", "tags", "odds"]))
    assert np.concatenate([c.rows for c in source.chunks()]).tolist() == [1, 2, 3]


def test_a_damaged_parquet_file_and_mixed_formats_are_named(tmp_path):
    bad = tmp_path / "a.parquet"
    bad.write_bytes(b"PAR1" + b"\0" * 100)
    with pytest.raises(DataError, match=r"a\.parquet must be a whole Parquet file"):
        list(open_source(config(bad)).chunks())
    (tmp_path / "b.csv").write_text("clicked\n")
    with pytest.raises(DataError, match=r"a\.parquet is Parquet and .*b\.csv is text"):
        open_source(config(tmp_path))


def test_files_are_dealt_to_splits_by_name(tmp_path):
    for name in ("train_2", "train_1", "test"):
        text = f"clicked,price,shop.name\n1,2,{name}\n"
        (tmp_path / f"{name}.csv").write_text(text)
    files = {"test": ["test.csv"], "train": ["train_*.csv"]}
    data = config(tmp_path, split=Split.files, files=files)
    found = [
        (chunk.split, chunk.table["shop.name"].to_pylist(), round(chunk.progress, 2))
        for chunk in open_source(data).chunks()
    ]
    assert [part[:2] for part in found] == [
        ("train", ["train_1"]),
        ("train", ["train_2"]),
        ("test", ["test"]),
    ]
    assert found[-1][2] == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": ["a.csv"], "test": ["a.csv"]}, "a.csv stands under train and test"),
        (
            {"train": ["a.csv"], "test": ["*.csv"]},
            "a.csv stands under train and test. Leave one out",
        ),
    ],
)
def test_files_at_odds_are_refused(tmp_path, files, message):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("clicked,price,shop.name\n1,2,x\n")
    with pytest.raises(ConfigError, match=message):
        open_source(config(tmp_path, split=Split.files, files=files))


def test_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "a.csv").write_text("clicked,price,shop.name\n1,2,x\n")
    twice = config(
        tmp_path, split=Split.files, files={"train": ["a.csv", "a.csv", "*.csv"]}
    )
    assert list(map(number, rows(open_source(twice))["price"])) == [2]


def test_frames_come_as_they_are_with_missing_values_null():
    frame = pd.DataFrame(
        {"clicked": [0, 1], "price": [1.0, np.nan], "shop.name": ["a", None]}
    )
    source = open_source(config(), frame)
    assert rows(source) == {
        "clicked": [0, 1],
        "price": [1.0, None],
        "shop.name": ["a", None],
    }
    other = frame.assign(price=[1.0, 2.0])
    assert source.identity() != open_source(config(), other).identity()
    assert source.identity() == open_source(config(), frame.copy()).identity()


def test_frames_by_split_and_their_mistakes():
    frame = pd.DataFrame({"clicked": [0], "price": [1.0], "shop.name": ["a"]})
    by_split = config(split=Split.source)
    chunks = list(open_source(by_split, {"train": frame, "test": frame}).chunks())
    assert [chunk.split for chunk in chunks] == ["train", "test"]
    with pytest.raises(DataError, match="one is for 'dev'"):
        open_source(by_split, {"dev": frame})
    with pytest.raises(ConfigError, match=r"data\.split must be source .* is random"):
        open_source(config(), {"train": frame, "test": frame})
    with pytest.raises(DataError, match="Perhaps 'price' may be 'prize'"):
        open_source(config(), frame.rename(columns={"price": "prize"}))
    mixed = pd.concat([frame, frame]).assign(price=["1", 2])
    with pytest.raises(DataError, match="column 'price' cannot be read"):
        list(open_source(config(), mixed).chunks())


def test_frames_are_for_tables_only():
    data = DataConfig(name="s", format=SourceFormat.criteo_kaggle)
    with pytest.raises(
        ConfigError, match=r"data\.format must be table .* criteo_kaggle"
    ):
        open_source(data, pd.DataFrame())
