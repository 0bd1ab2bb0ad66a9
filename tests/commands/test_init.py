from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.commands.init import init, main
from dlrm.config.compose import compose
from dlrm.config.data import BadRows, SourceFormat
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.features import Missing
from dlrm.data.sources import open_source

CLICKS = Path(__file__).parents[2] / "data" / "clicks.csv"


def compose_and_read(name):
    """The written config, and all its rows."""
    data = compose([f"data={name}"]).data
    tables = [chunk.table for chunk in open_source(data).chunks()]
    return data, pa.concat_tables(tables)


def test_the_project_s_own_clicks_get_a_config_that_reads_them(workdir, capsys):
    shutil.copy(CLICKS, workdir)
    assert main(["clicks.csv", "label=clicked"]) == 0
    printed = capsys.readouterr().out
    assert "Wrote conf/data/clicks.yaml (2,000 rows)" in printed
    assert "dlrm train data=clicks " in printed
    data, table = compose_and_read("clicks")
    assert data.format is SourceFormat.table
    assert (data.label, data.id_column) == ("clicked", "impression_id")
    assert set(data.dense_features) == {"price", "visits"}
    assert data.dense_features["price"].missing is Missing.mean
    assert set(data.sparse_features) == {"device", "shop", "tags"}
    assert data.sparse_features["tags"].delimiter == "pipe"
    assert table.num_rows == 2000


def test_awkward_column_names_survive_yaml_hydra_and_reading(workdir):
    draw = random.Random(0)
    names = ["a.b", "x=1", "with space", "${oc.env:HOME}", "é'\"", "yes"]
    header = "\t".join([*(name.replace('"', '""') for name in names), "y"])
    rows = [
        "\t".join(draw.choice("pqr") for _ in names) + f"\t{i % 2}" for i in range(60)
    ]
    Path("odd name.TSV").write_text(
        "\n".join([header.replace('é\'""', '"é\'"""'), *rows])
    )
    init("odd name.TSV", label="y")
    data, table = compose_and_read("odd_name")
    found = {feature.column or name for name, feature in data.sparse_features.items()}
    assert found == set(names)
    assert all(name.isidentifier() for name in data.sparse_features)
    assert set(table.column_names) == {*names, "y"}


def test_parquet_lists_and_booleans_are_understood(workdir):
    table = pa.table(
        {
            "click": [bool(i % 2) for i in range(50)],
            "tags": [["a", "b"][: i % 3] for i in range(50)],
            "price": [i * 1.5 % 7 for i in range(50)],
        }
    )
    pq.write_table(table, "log.parquet")
    init("log.parquet", label="click", name="mine")
    data, read = compose_and_read("mine")
    assert data.sparse_features["tags"].multi_hot
    assert data.sparse_features["tags"].delimiter is None
    assert set(data.dense_features) == {"price"}
    assert read.equals(table.select(read.column_names))


def test_latin_1_text_and_bad_rows_are_found_and_written_down(workdir, capsys):
    good = "".join(f"{i % 2};caf\xe9{i % 3}\n" for i in range(40))
    Path("t.csv").write_bytes(f"y;place\n{good}1;a;b\n".encode("latin-1"))
    main(["t.csv", "label=y"])
    assert "1 rows cannot be read" in capsys.readouterr().out
    data, table = compose_and_read("t")
    assert data.table.encoding == "latin-1"
    assert data.table.separator == "semicolon"
    assert data.bad_rows is BadRows.skip
    assert table["place"][0].as_py() == "caf\xe90"


def test_a_config_is_replaced_only_where_asked_for(workdir):
    Path("t.csv").write_text("y,a\n" + "0,p\n1,q\n" * 9)
    init("t.csv", label="y")
    before = Path("conf/data/t.yaml").read_text()
    with pytest.raises(ConfigError, match="Type overwrite=true to replace"):
        main(["t.csv", "label=y"])
    Path("t.csv").write_text("y,b\n" + "0,p\n1,q\n" * 9)
    main(["t.csv", "label=y", "overwrite=true"])
    assert Path("conf/data/t.yaml").read_text() == before.replace('"a"', '"b"')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y,a\n1,p\n1,q\n", "'y' is 1 in every row: there is nothing to learn"),
        ("y,a\n1,p\nyes,q\n", "'y' has 'yes'"),
        ("y,a\n1,p\n,q\n", "'y' is missing in 1 of 2 rows"),
        ("Y,a\n1,p\n0,q\n", "must have the column 'y'"),
        ("y,a\n", "must have rows"),
        ("y,a\n1,p\n0,p\n", "must have columns to learn from"),
    ],
)
def test_a_table_that_cannot_train_is_refused_and_nothing_is_written(
    workdir, text, message
):
    Path("t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        init("t.csv", label="y")
    assert not Path("conf").exists()


@pytest.mark.parametrize(
    ("header", "row", "settings"),
    [
        ("c", "{c}", " model.interaction=cat"),
        ("n", "{n}", " model.interaction=cat"),
        ("n,m", "{n},{n}7", " model.interaction=cat"),
        ("n,c", "{n},{c}", ""),
        ("c,d", "{c},{c}", ""),
    ],
)
def test_what_has_one_vector_alone_is_not_multiplied(
    workdir, capsys, header, row, settings
):
    lines = [
        f"{i % 2}," + row.format(c="pqr"[i % 3], n=i * 0.37 % 1) for i in range(50)
    ]
    Path("t.csv").write_text("\n".join([f"y,{header}", *lines]))
    main(["t.csv", "label=y"])
    epochs = "trainer.global_batch_size=32 trainer.num_epochs=10"
    printed = capsys.readouterr().out
    assert f"dlrm train data=t {epochs}{settings}\n" in printed
    assert "50 rows are few" in printed


def test_a_full_disk_leaves_no_half_config(workdir, monkeypatch):
    Path("t.csv").write_text("y,a\n" + "0,p\n1,q\n" * 9)

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        init("t.csv", label="y")
    assert list(Path("conf/data").iterdir()) == []


def test_hints_name_the_keys_of_this_command(workdir):
    Path("t.tsv").write_text("y\ta\n0\tp\n1\tq\n")
    with pytest.raises(DataError, match="tab, not by comma: set separator=tab"):
        init("t.tsv", label="y", separator="comma")
    with pytest.raises(DataError, match="no header line, write one first"):
        init("t.tsv", label="0")


def test_a_misspelt_label_is_named_with_its_likely_column(workdir):
    shutil.copy(CLICKS, workdir)
    with pytest.raises(DataError, match="Perhaps 'clickd' may be 'clicked'"):
        init("clicks.csv", label="clickd")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["label=y"], "input must be set"),
        (["t.csv"], "label must be set"),
        (["t.csv", "label=y", "trainer.seed=1"], "but it got trainer.seed=1"),
        (["t.csv", "lable=y"], "but it got lable=y. Did you mean label?"),
        (["t.csv", "label=y", "overwrite=maybe"], "overwrite must be true or false"),
        (["t.csv", "label=y", "name=a-b"], "name must be letters"),
        (["synthetic.csv", "label=y"], "'synthetic' is one. Type name=my_synthetic"),
        (["t.csv", "label=y", "separator="], "separator must be a separator"),
    ],
)
def test_a_bad_command_line_is_refused_by_name(workdir, argv, message):
    for name in ("t.csv", "synthetic.csv"):
        Path(name).write_text("y,a\n0,p\n1,q\n")
    with pytest.raises(ConfigError, match=message):
        main(argv)
