from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dlrm.config.contract import Severity
from dlrm.config.data import BadRows, SourceFormat, Split
from dlrm.config.errors import DataError, DatasetError
from dlrm.config.features import DenseFeature, Encoding, OutOfRange, SparseFeature
from dlrm.data.preparation.blocks import BlockStore
from dlrm.data.preparation.prepare import (
    describe_dataset,
    iter_encoded,
    prepare_dataset,
    prepare_source,
)
from dlrm.data.preparation.quarantine import QUARANTINE_FILE
from dlrm.data.preparation.summary import PrepareSummary
from dlrm.data.sources.chunk import BadRow
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.records_file import RecordsFile
from dlrm.data.transforms.fitted import FittedTransforms
from tests.data.raw import ListSource, chunk, config

NUM_ROWS = 60


def raw_columns(start=0, stop=NUM_ROWS):
    rows = range(start, stop)
    return {
        "label": [row % 3 == 0 for row in rows],
        "price": [None if row % 7 == 0 else float(row) for row in rows],
        "user": [f"u{row % 5}" for row in rows],
        "tags": ["|".join(f"t{row % k}" for k in (2, 3)[: row % 3]) for row in rows],
        "when": list(rows),
        "w": [1.0 + row % 2 for row in rows],
        "note": [f"note {row}" for row in rows],
    }


def source(**options):
    parts = [
        chunk(raw_columns(0, 25), progress=0.5),
        chunk(raw_columns(25), first_row=27),
    ]
    return ListSource(parts, **options)


@pytest.fixture
def data(tmp_path):
    return config(
        prepared=str(tmp_path / "prepared"),
        dense={"price": DenseFeature(standardize=False)},
        sparse={
            "user": SparseFeature(),
            "tags": SparseFeature(multi_hot=True, delimiter="pipe"),
        },
        split_fractions=[0.6, 0.2, 0.2],
    )


def names_in(data):
    parent = Path(data.prepared)
    return sorted(path.name for path in parent.iterdir()) if parent.exists() else []


def rows_by_split(folder):
    """Every row as plain values, by split and original line."""
    dataset = Dataset.open(folder)
    found = {}
    for split in dataset.splits:
        rows = dataset.split(split)
        encoded = rows.gather(np.arange(rows.num_rows))
        lines = dataset.side(split)["__row"].to_pylist()
        starts = encoded.value_starts()
        found[split] = {
            line: (
                float(encoded.labels[i]),
                encoded.dense[i].tolist(),
                encoded.one_hot[i].tolist(),
                encoded.bag_values[starts[i] : starts[i + 1]].tolist(),
            )
            for i, line in enumerate(lines)
        }
    return found


def test_every_row_lands_in_one_split_with_its_own_values(data):
    folder = prepare_source(data, source())
    keys = {
        table: FittedTransforms.load(folder).vocabularies[table].keys.to_pylist()
        for table in ("user", "tags")
    }
    raw = raw_columns()
    seen = []
    for rows in rows_by_split(folder).values():
        seen += rows
        for line, (label, dense, one_hot, bag) in rows.items():
            row = line - 2
            assert label == raw["label"][row]
            assert dense == [raw["price"][row] or 0.0]
            assert keys["user"][one_hot[0] - 1] == raw["user"][row]
            tags = [tag for tag in raw["tags"][row].split("|") if tag]
            assert [keys["tags"][i - 1] for i in bag] == tags
    assert sorted(seen) == list(range(2, NUM_ROWS + 2))


def test_rows_of_a_split_stay_in_file_order(data):
    for rows in rows_by_split(prepare_source(data, source())).values():
        assert list(rows) == sorted(rows)


def test_nothing_depends_on_how_the_source_cuts_chunks(data, tmp_path):
    whole = ListSource([chunk(raw_columns())])
    first = prepare_source(data, source())
    data.prepared = str(tmp_path / "other")
    second = prepare_source(data, whole)
    assert rows_by_split(first) == rows_by_split(second)
    one, other = (Dataset.open(folder).schema for folder in (first, second))
    assert one.sparse == other.sparse
    assert one.splits == other.splits
    # Sums of floats may differ in the last digit; the chunks of one source never do.
    assert one.dense[0].mean == pytest.approx(other.dense[0].mean, rel=1e-14)
    assert one.dense[0].std == pytest.approx(other.dense[0].std, rel=1e-14)


def test_changing_test_rows_changes_nothing_that_is_fitted(data, tmp_path):
    data.split, data.time_column = Split.time, "when"
    data.dense_features["price"].standardize = True
    first = FittedTransforms.load(prepare_source(data, source()))
    changed = raw_columns()
    for row in range(int(NUM_ROWS * 0.6), NUM_ROWS):
        changed["price"][row] = 1e6
        changed["user"][row] = "new"
        changed["tags"][row] = "new|newer"
    data.prepared = str(tmp_path / "other")
    folder = prepare_source(data, ListSource([chunk(changed)]))
    second = FittedTransforms.load(folder)
    assert second.schema.dense == first.schema.dense
    assert second.schema.sparse == first.schema.sparse
    for table in ("user", "tags"):
        keys = [fitted.vocabularies[table].keys for fitted in (first, second)]
        assert keys[0].equals(keys[1])


def test_schema_counts_rows_clicks_and_weights_of_each_split(data):
    data.weight_column = "w"
    folder = prepare_source(data, source())
    dataset = Dataset.open(folder)
    for name, summary in dataset.schema.splits.items():
        rows = dataset.split(name).gather(np.arange(summary.num_rows))
        assert summary.total_weight == rows.weights.sum()
        assert summary.num_positives == (rows.weights * rows.labels).sum()
    sizes = [summary.num_rows for summary in dataset.schema.splits.values()]
    assert sum(sizes) == NUM_ROWS


def test_a_dataset_is_reused_when_nothing_changed(data):
    raw = source()
    first = prepare_source(data, raw)
    assert prepare_source(data, raw) == first
    assert raw.num_reads == 1
    assert names_in(data) == [first.name]
    assert first.name == f"clicks-{Dataset.open(first).schema.fingerprint[:12]}"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: setattr(data, "split_seed", 1),
        lambda data: setattr(data.sparse_features["user"], "min_frequency", 2),
        lambda data: setattr(data.dense_features["price"], "log1p", True),
        lambda data: setattr(data, "keep", ["note"]),
        lambda data: data.sparse_features.update(user=data.sparse_features.pop("user")),
    ],
)
def test_a_setting_that_shapes_the_data_makes_another_dataset(data, change):
    first = prepare_source(data, source())
    change(data)
    assert prepare_source(data, source()) != first


def test_other_raw_rows_make_another_dataset(data):
    first = prepare_source(data, source())
    assert prepare_source(data, source(name="newer")) != first


def test_widths_pooling_and_paths_shape_nothing(data):
    raw = source()
    first = prepare_source(data, raw)
    data.sparse_features["user"].embedding_dim = 64
    data.source = "elsewhere/clicks.csv"
    assert prepare_source(data, raw) == first
    assert raw.num_reads == 1


def test_a_damaged_dataset_is_prepared_anew(data, capsys):
    folder = prepare_source(data, source())
    shard = folder / "train" / "shard_00000" / "rows.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    assert prepare_source(data, source()) == folder
    assert shard.read_bytes() == whole
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Preparing anew: {shard} must be {len(whole)} bytes")
    assert "Delete the folder" not in said
    assert names_in(data) == [folder.name]


PLACES = [
    "blocks.BlockWriter.append",
    "counting.CountTask.make",
    "encoding.EncodeTask.make",
    "shard_plan.Place.write",
    "assembling.SideTask.make",
    "assembling.BagsTask.make",
    "assembling.RecordsTask.make",
    "prepare.publish",
]


def break_at(monkeypatch, place, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(f"dlrm.data.preparation.{place}", fail)


@pytest.mark.parametrize("place", PLACES)
def test_a_failure_anywhere_leaves_nothing_behind(data, monkeypatch, place):
    break_at(monkeypatch, place, OSError(28, "No space left"))
    with pytest.raises(OSError, match="No space left"):
        prepare_source(data, source())
    assert names_in(data) == []


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_preparation_is_gone_on_with(data, monkeypatch, place, capsys):
    whole = prepare_source(data, source())
    expected = {p.relative_to(whole): p.read_bytes() for p in files_of(whole)}
    shutil.rmtree(whole)
    with monkeypatch.context() as patch:
        break_at(patch, place, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare_source(data, source())
    capsys.readouterr()
    folder = prepare_source(data, source())
    assert {p.relative_to(folder): p.read_bytes() for p in files_of(folder)} == expected
    assert names_in(data) == [folder.name]
    went_on = "Going on" in capsys.readouterr().err
    assert went_on == (place != "blocks.BlockWriter.append")


def interrupted_at(data, monkeypatch, place):
    """Prepare until just before ``place``; return the records of train so far."""
    with monkeypatch.context() as patch:
        break_at(patch, place, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare_source(data, source())
    (left,) = Path(data.prepared).glob(".tmp-*")
    return left / "dataset" / "train" / "shard_00000" / "rows.bin"


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, cut, damage])
@pytest.mark.parametrize(
    "place", ["assembling.SideTask.make", "assembling.RecordsTask.make"]
)
def test_records_harmed_since_they_were_written_are_written_anew(
    data, monkeypatch, place, harm
):
    whole = prepare_source(data, source())
    expected = {p.relative_to(whole): p.read_bytes() for p in files_of(whole)}
    shutil.rmtree(whole)
    harm(interrupted_at(data, monkeypatch, place))
    folder = prepare_source(data, source())
    assert {p.relative_to(folder): p.read_bytes() for p in files_of(folder)} == expected
    Dataset.open(folder, verify=True)


def test_records_that_lie_in_place_are_neither_read_nor_written_again(
    data, monkeypatch
):
    interrupted_at(data, monkeypatch, "assembling.RecordsTask.make")
    break_at(monkeypatch, "shard_plan.Place.write", AssertionError)
    break_at(monkeypatch, "spill.SpillTask.make", AssertionError)
    assert Dataset.open(prepare_source(data, source()), verify=True)


def test_rows_that_were_read_go_as_they_are_encoded(data, monkeypatch):
    def interrupted_with(place):
        records = interrupted_at(data, monkeypatch, place)
        (work,) = Path(data.prepared).glob(".tmp-*")
        store = BlockStore(work / "blocks")
        return records, [store.open(f"rows-{n:07d}").spent for n in range(2)]

    assert interrupted_with("encoding.EncodeTask.make")[1] == [False, False]
    assert interrupted_with("assembling.RecordsTask.make")[1] == [True, True]


def test_a_preparation_cut_short_amid_its_records_is_gone_on_with(data, monkeypatch):
    whole = prepare_source(data, source())
    expected = {p.relative_to(whole): p.read_bytes() for p in files_of(whole)}
    shutil.rmtree(whole)
    write = RecordsFile.write

    def writing_half_of(cut_at):
        numbers = itertools.count(1)

        def write_some(self, first_row, columns, rows):
            if next(numbers) == cut_at:
                write(self, first_row, columns, rows[: rows.size // 2])
                raise KeyboardInterrupt
            return write(self, first_row, columns, rows)

        return write_some

    for cut_at in (2, 1, 3):
        with monkeypatch.context() as patch:
            patch.setattr(RecordsFile, "write", writing_half_of(cut_at))
            with pytest.raises(KeyboardInterrupt):
                prepare_source(data, source())
    folder = prepare_source(data, source())
    assert {p.relative_to(folder): p.read_bytes() for p in files_of(folder)} == expected


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_rows_that_changed_unseen_are_read_and_counted_anew(data, monkeypatch):
    with monkeypatch.context() as patch:
        break_at(patch, "assembling.RecordsTask.make", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare_source(data, source())
    columns = raw_columns(25)
    columns["user"] = ["new"] * len(columns["user"])
    parts = [source().items[0], chunk(columns, first_row=27)]
    went_on = rows_by_split(prepare_source(data, ListSource(parts)))
    data.prepared += "-anew"
    assert went_on == rows_by_split(prepare_source(data, ListSource(parts)))


def test_other_settings_start_anew_and_say_so(data, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        break_at(patch, "encoding.EncodeTask.make", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare_source(data, source())
    data.split_seed = 1
    folder = prepare_source(data, source())
    assert "Starting anew: raw files or settings changed" in capsys.readouterr().err
    assert names_in(data) == [folder.name]


def test_what_another_dataset_can_go_on_from_stays(data, monkeypatch):
    with monkeypatch.context() as patch:
        break_at(patch, "encoding.EncodeTask.make", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare_source(data, source())
    (left,) = names_in(data)
    data.name = "others"
    folder = prepare_source(data, source())
    assert names_in(data) == sorted([left, folder.name])


def test_a_source_that_breaks_leaves_nothing_and_the_next_run_works(data):
    with pytest.raises(RuntimeError, match="the reader broke"):
        prepare_source(data, source(fail_after=1))
    assert names_in(data) == []
    assert prepare_source(data, source()).is_dir()


def test_a_failure_keeps_the_dataset_of_other_settings(data):
    first = prepare_source(data, source())
    data.split_seed = 1
    with pytest.raises(RuntimeError):
        prepare_source(data, source(fail_after=0))
    assert names_in(data) == [first.name]


def test_what_a_dead_process_left_is_removed(data):
    abandoned = Path(data.prepared) / ".tmp-other-0123456789ab" / "spill"
    abandoned.mkdir(parents=True)
    (abandoned / "000000.arrow").write_bytes(b"half")
    folder = prepare_source(data, source())
    assert names_in(data) == [folder.name]


def test_of_two_runs_at_once_one_prepares_and_both_get_the_result(data):
    class SlowSource(ListSource):
        def chunks(self):
            started.set()
            go_on.wait(10)
            return super().chunks()

    started, go_on = threading.Event(), threading.Event()
    slow, second, found = SlowSource(source().items), source(), []
    threads = [
        threading.Thread(target=lambda raw=raw: found.append(prepare_source(data, raw)))
        for raw in (slow, second)
    ]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert slow.num_reads == 1
    assert second.num_reads == 0
    assert found[0] == found[1]
    assert names_in(data) == [found[0].name]


def test_skipped_rows_are_counted_and_written_to_the_quarantine(data):
    data.bad_rows = BadRows.skip
    columns = raw_columns()
    columns["price"] = ["cheap" if row == 4 else "1" for row in range(NUM_ROWS)]
    unreadable = BadRow("clicks.csv", 99, "has 3 columns where 7 must stand", "a,b,c")
    raw = ListSource([chunk(columns, quarantined=(unreadable,))])
    folder = prepare_source(data, raw)
    rows = pq.read_table(folder / QUARANTINE_FILE).to_pylist()
    assert [(row["file"], row["row"]) for row in rows] == [
        ("clicks.csv", 99),
        ("clicks.csv", 6),
    ]
    assert rows[0]["text"] == "a,b,c"
    assert "'cheap'" in rows[1]["reason"]
    summary = PrepareSummary.load(folder)
    assert summary.num_quarantined == 2
    assert sum(split.num_rows for split in summary.splits.values()) == NUM_ROWS - 1
    assert "2 bad rows" in describe_dataset(folder)


def test_left_out_rows_are_told_where_they_are_listed(data, capsys):
    data.bad_rows = BadRows.skip
    columns = {**raw_columns(), "price": ["cheap", *["1"] * (NUM_ROWS - 1)]}
    folder = prepare_source(data, ListSource([chunk(columns)]))
    listed = folder / QUARANTINE_FILE
    assert f"Left out 1 bad row: {listed} lists them." in capsys.readouterr().err


def test_rows_that_are_all_left_out_are_refused_with_the_first_one_s_fault(data):
    data.bad_rows = BadRows.skip
    columns = {**raw_columns(), "label": ["yes"] * NUM_ROWS}
    with pytest.raises(DataError, match=r"all 60\. clicks\.csv, line 2: .*'yes'"):
        prepare_source(data, ListSource([chunk(columns)]))
    assert names_in(data) == []


def test_without_bad_rows_there_is_no_quarantine(data):
    assert not (prepare_source(data, source()) / QUARANTINE_FILE).exists()


def test_a_bad_row_stops_the_preparation_and_leaves_nothing(data):
    columns = raw_columns()
    columns["label"] = [2] * NUM_ROWS
    with pytest.raises(DataError, match=r"clicks\.csv, line 2.*'label'"):
        prepare_source(data, ListSource([chunk(columns)]))
    assert names_in(data) == []


@pytest.mark.parametrize("label", [0, 1])
def test_a_constant_training_label_is_refused(data, label):
    columns = {**raw_columns(), "label": [label] * NUM_ROWS}
    with pytest.raises(DataError, match=f"'label'.*is {label} in all of them"):
        prepare_source(data, ListSource([chunk(columns)]))


def test_training_rows_without_any_weight_are_refused(data):
    data.weight_column = "w"
    columns = {**raw_columns(), "w": [0.0] * NUM_ROWS}
    with pytest.raises(DataError, match=r"'w' \(data\.weight_column\) is 0 in all"):
        prepare_source(data, ListSource([chunk(columns)]))
    assert names_in(data) == []


def test_clicks_without_weight_are_no_clicks(data):
    data.weight_column = "w"
    columns = raw_columns()
    columns["w"] = [0.0 if label else 1.0 for label in columns["label"]]
    with pytest.raises(DataError, match="'label'.*is 0 in all that have weight"):
        prepare_source(data, ListSource([chunk(columns)]))


def test_side_columns_are_row_aligned_and_hold_what_slices_need(data):
    data.id_column, data.group_column, data.time_column = "note", "user", "when"
    data.sparse_features["kind"] = SparseFeature(column="label")
    dataset = Dataset.open(prepare_source(data, source()))
    assert dataset.schema.kept_columns == ("note", "user", "when", "label")
    raw = raw_columns()
    for split in dataset.splits:
        side = dataset.side(split).to_pylist()
        assert side
        for entry in side:
            row = entry["__row"] - 2
            assert entry["__file"] == "clicks.csv"
            assert entry["note"] == raw["note"][row]
            assert entry["user"] == raw["user"][row]
            assert entry["when"] == raw["when"][row]
            assert entry["label"] == str(raw["label"][row]).lower()


def test_only_small_one_hot_features_are_kept_by_default(data):
    data.checks.label_leak.severity = Severity.ignore
    columns = raw_columns()
    size = 3000
    columns = {name: (values * 50)[:size] for name, values in columns.items()}
    columns["wide"] = [str(row) for row in range(size)]
    columns["hashed"] = [str(row % 10) if row % 10 else None for row in range(size)]
    hashed = SparseFeature(encoding=Encoding.hash, num_embeddings=4)
    data.sparse_features.update(wide=SparseFeature(), hashed=hashed)
    data.checks.label_leak.severity = Severity.ignore  # Rows without tags are clicks.
    folder = prepare_source(data, ListSource([chunk(columns)]))
    dataset = Dataset.open(folder)
    assert dataset.schema.kept_columns == ("user", "hashed")
    values = set(dataset.side("train")["hashed"].to_pylist())
    assert values == {None, *map(str, range(1, 10))}
    features = PrepareSummary.load(folder).features
    assert features["hashed"].num_values == 10
    assert features["wide"].num_values == dataset.schema.splits["train"].num_rows


def test_kept_columns_of_changing_type_get_one_that_holds_all(data):
    data.keep = ["note"]
    parts = [
        chunk({**raw_columns(0, 20), "note": [None] * 20}),
        chunk({**raw_columns(20, 40), "note": [1] * 20}, first_row=22),
        chunk({**raw_columns(40), "note": [0.5] * 20}, first_row=42),
    ]
    dataset = Dataset.open(prepare_source(data, ListSource(parts)))
    notes = {}
    for split in dataset.splits:
        side = dataset.side(split)
        rows = side["__row"].to_pylist()
        notes.update(zip(rows, side["note"].to_pylist(), strict=True))
    in_order = [notes[row] for row in sorted(notes)]
    assert in_order == [None] * 20 + [1.0] * 20 + [0.5] * 20


def test_the_summary_reports_unknown_ids_by_split(data):
    data.split, data.time_column = Split.time, "when"
    columns = raw_columns()
    columns["user"][-12:-6] = ["new"] * 6
    folder = prepare_source(data, ListSource([chunk(columns)]))
    user = PrepareSummary.load(folder).features["user"]
    assert user.outside == {"train": 0.0, "valid": 0.0, "test": 0.5}
    assert (user.num_values, user.num_embeddings) == (5, 6)
    text = describe_dataset(folder)
    for part in ("clicks", "train", "36", "0.3333", "user", "50.00%"):
        assert part in text


def test_a_missing_or_damaged_summary_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"summary\.json"):
        describe_dataset(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"splits": 3, "features": {}}))
    with pytest.raises(DatasetError, match=r"summary\.json"):
        describe_dataset(tmp_path)


def test_new_rows_are_encoded_as_the_prepared_ones_were(data):
    data.id_column, data.group_column = "note", "user"
    folder = prepare_source(data, source())
    prepared = rows_by_split(folder)
    transforms = FittedTransforms.load(folder)
    lines, found = [], {}
    for rows, side in iter_encoded(data, transforms, source(), True):
        assert side.column_names == ["__file", "__row", "note", "user"]
        starts = rows.value_starts()
        for i, line in enumerate(side["__row"].to_pylist()):
            lines.append(line)
            found[line] = (
                float(rows.labels[i]),
                rows.dense[i].tolist(),
                rows.one_hot[i].tolist(),
                rows.bag_values[starts[i] : starts[i + 1]].tolist(),
            )
    assert lines == list(range(2, NUM_ROWS + 2))
    assert found == {k: v for part in prepared.values() for k, v in part.items()}


def test_rows_without_labels_or_side_columns_can_be_encoded(data):
    data.group_column, data.weight_column = "note", "w"
    folder = prepare_source(data, source())
    bare = {name: raw_columns()[name] for name in ("price", "user", "tags")}
    transforms = FittedTransforms.load(folder)
    ((rows, side),) = iter_encoded(data, transforms, ListSource([chunk(bare)]), False)
    assert side.column_names == ["__file", "__row", "user"]
    assert rows.labels.tolist() == [0] * NUM_ROWS
    assert rows.weights.tolist() == [1] * NUM_ROWS


def test_an_unknown_id_in_new_rows_names_its_file_and_row(data):
    data.sparse_features["user"].out_of_range = OutOfRange.error
    transforms = FittedTransforms.load(prepare_source(data, source()))
    new = {**raw_columns(0, 2), "user": ["u1", "u9"]}
    raw = ListSource([chunk(new, file="new.csv")])
    with pytest.raises(DataError, match=r"'u9' in new\.csv, line 3"):
        list(iter_encoded(data, transforms, raw, False))


def test_a_dataframe_can_be_prepared(data):
    frame = pd.DataFrame(raw_columns())
    folder = prepare_dataset(data, frame=frame)
    schema = Dataset.open(folder).schema
    assert sum(split.num_rows for split in schema.splits.values()) == NUM_ROWS


def test_a_csv_file_and_a_dataframe_of_the_same_rows_prepare_the_same(data, tmp_path):
    frame = pd.DataFrame(raw_columns())
    frame["label"] = frame["label"].astype(int)
    path = tmp_path / "clicks.csv"
    frame.to_csv(path, index=False)
    from_frame = rows_by_split(prepare_dataset(data, frame=frame))
    data.source = str(path)
    from_file = rows_by_split(prepare_dataset(data))
    shifted = {
        split: {line + 1: row for line, row in rows.items()}
        for split, rows in from_frame.items()
    }
    assert from_file == shifted


def test_preparing_does_not_import_torch():
    code = "import sys, dlrm.data.preparation.prepare; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_criteo_as_published_can_be_prepared(real_data, data):
    data.format = SourceFormat.criteo_kaggle
    data.source = str(real_data / "criteo-kaggle-10k" / "train.txt")
    data.dense_features = {
        f"I{i}": DenseFeature(log1p=True, standardize=False) for i in range(1, 14)
    }
    data.sparse_features = {f"C{i}": SparseFeature() for i in range(1, 27)}
    folder = prepare_dataset(data)
    dataset = Dataset.open(folder)
    keys = FittedTransforms.load(folder).vocabularies
    lines = Path(data.source).read_text().split("\n")
    rows = dataset.split("test").gather(np.arange(50))
    for i, line in enumerate(dataset.side("test")["__row"].to_pylist()[:50]):
        fields = lines[line - 1].split("\t")
        assert rows.labels[i] == float(fields[0])
        counts = np.array([float(field or 0) for field in fields[1:14]])
        expected = np.sign(counts) * np.log1p(np.abs(counts))
        np.testing.assert_allclose(rows.dense[i], expected, rtol=1e-6)
        for place, text in enumerate(fields[14:]):
            row = rows.one_hot[i, place]
            known = keys[f"C{place + 1}"].keys
            assert row == 0 or known[int(row) - 1].as_py() == text
