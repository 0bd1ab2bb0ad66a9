from __future__ import annotations

import gzip

import pyarrow as pa
import pytest

from dlrm.config.data import CriteoSource, DataConfig, SourceFormat, Split
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.sources import open_source
from dlrm.data.sources.criteo import COUNTS, IDS
from dlrm.data.sources.criteo_multi_hot import BAG_SIZES, to_bags
from tests.data.raw import number


def config(source, *, days=False, multi_hot=False, **settings):
    return DataConfig(
        name="c",
        format=SourceFormat.criteo_1tb if days else SourceFormat.criteo_kaggle,
        source=str(source),
        dense_features={name: DenseFeature() for name in COUNTS},
        sparse_features={name: SparseFeature(multi_hot=multi_hot) for name in IDS},
        **settings,
    )


def line(number, *, label=True):
    counts = ["" if i == number % 13 else str(i - 2) for i in range(13)]
    ids = [f"{number * 26 + i:08x}" if i else "" for i in range(26)]
    return "\t".join([*([str(number % 2)] if label else []), *counts, *ids]) + "\n"


def test_counts_and_ids_are_read_with_their_gaps(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(line(0) + line(1))
    (chunk,) = open_source(config(path)).chunks()
    assert chunk.table.column_names == ["label", *COUNTS, *IDS]
    first = chunk.table.to_pylist()[0]
    assert (first["label"], number(first["I1"]), number(first["I2"])) == ("0", None, -1)
    assert (first["C1"], first["C2"]) == (None, "00000001")
    assert chunk.rows.tolist() == [1, 2]


def test_rows_without_labels_can_only_be_scored(tmp_path):
    path = tmp_path / "test.txt"
    path.write_text(line(0, label=False))
    with pytest.raises(DataError, match=r"has the 39 of Criteo's test\.txt"):
        open_source(config(path))
    (chunk,) = open_source(config(path), with_labels=False).chunks()
    assert chunk.table.column_names == [*COUNTS, *IDS]


def test_another_layout_is_refused(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("label,I1\n1,2\n")
    with pytest.raises(DataError, match=r"first line has 1\. .* data\.format=table"):
        open_source(config(path))


def test_the_last_day_is_halved_and_the_days_before_it_train(tmp_path):
    for day, num_rows in ((2, 2), (10, 5), (1, 1)):
        text = "".join(line(number) for number in range(num_rows))
        packed = gzip.compress(text.rstrip("\n").encode())
        (tmp_path / f"day_{day}.gz").write_bytes(packed)
    chunks = list(open_source(config(tmp_path, days=True, split=Split.source)).chunks())
    found = [(c.file[-8:], c.split, row) for c in chunks for row in c.rows.tolist()]
    assert found == [
        ("day_1.gz", "train", 1),
        ("day_2.gz", "train", 1),
        ("day_2.gz", "train", 2),
        ("ay_10.gz", "valid", 1),
        ("ay_10.gz", "valid", 2),
        ("ay_10.gz", "valid", 3),
        ("ay_10.gz", "test", 4),
        ("ay_10.gz", "test", 5),
    ]


def test_files_that_are_no_days_cannot_be_split_by_day(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(line(0))
    with pytest.raises(DataError, match="must name files day_0 to day_23"):
        open_source(config(tmp_path, days=True, split=Split.source))


def test_a_single_day_leaves_nothing_to_hold_out(tmp_path):
    (tmp_path / "day_3").write_text(line(0) + line(1))
    with pytest.raises(DataError, match="two days or more .* there is only .*day_3"):
        open_source(config(tmp_path, days=True, split=Split.source))
    scored = config(tmp_path, days=True, split=Split.source)
    assert len(list(open_source(scored, with_labels=False).chunks())) == 1


def test_bags_begin_with_the_row_s_own_id_and_an_id_keeps_its_companions():
    bags = to_bags(pa.chunked_array([["a", None], ["b", "a"]]), size=3, seed=5)
    assert bags.to_pylist() == [
        ["a", "a#5.1", "a#5.2"],
        ["", "#5.1", "#5.2"],
        ["b", "b#5.1", "b#5.2"],
        ["a", "a#5.1", "a#5.2"],
    ]


def test_multi_hot_bags_have_mlperf_s_sizes(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(line(0) + line(1))
    options = CriteoSource(multi_hot=True)
    (chunk,) = open_source(config(path, multi_hot=True, criteo=options)).chunks()
    row = chunk.table.to_pylist()[1]
    assert tuple(len(row[name]) for name in IDS) == BAG_SIZES
    assert sum(BAG_SIZES) == 214
    assert row["C2"][0] == f"{27:08x}"
    with pytest.raises(ConfigError, match=r"C1\.multi_hot must be true"):
        open_source(config(path, criteo=options))


def test_the_real_sample_is_read_whole(real_data):
    path = real_data / "criteo-kaggle-10k" / "train.txt"
    table = pa.concat_tables(c.table for c in open_source(config(path)).chunks())
    expected = [text.split("\t") for text in path.read_text().split("\n")[:-1]]
    columns = [column.to_pylist() for column in table.columns]
    for place, found in enumerate(columns):
        texts = [row[place] for row in expected]
        if table.column_names[place] in COUNTS:
            counts = [float(text) if text else None for text in texts]
            assert list(map(number, found)) == counts
        else:
            assert [value or "" for value in found] == texts
