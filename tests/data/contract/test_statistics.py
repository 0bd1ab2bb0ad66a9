from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

import dlrm.data.contract.row_hashes as row_hashes_module
import dlrm.data.contract.sample as sample_module
from dlrm.data.columns.typed import typed_columns
from dlrm.data.contract.contract import build_contract
from dlrm.data.contract.row_hashes import HashSketch, quick_keys, row_hashes
from dlrm.data.contract.statistics import Gathering
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.rows import concatenate_rows
from dlrm.data.transforms.fitted import FittedTransforms
from tests.data.contract.clean import clean_log, log_config
from tests.data.raw import chunk
from tests.data.raw import typed as typed_rows


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    data = log_config(folder)
    made = prepare_dataset(data, frame=clean_log(7, num_rows=900))
    return data, FittedTransforms.load(made)


def pieces(fitted, bounds, frame=None):
    """The log as typed and encoded chunks, cut at ``bounds``, with codes."""
    data, transforms = fitted
    frame = clean_log(7, num_rows=900) if frame is None else frame
    codes = frame["part"].map({"train": 0, "valid": 1, "test": 2}).to_numpy(np.int8)
    for start, stop in itertools.pairwise(bounds):
        part = frame.iloc[start:stop]
        columns = {name: part[name].tolist() for name in part.columns}
        rows = typed_rows_of(data, columns, start)
        yield rows, transforms.encode(rows), codes[start:stop]


def typed_rows_of(data, columns, start):
    return typed_columns(
        chunk(columns, file="log.parquet", first_row=start + 1),
        data,
        keep=["row", "when"],
    ).table


def contract_text(fitted, gathered, folder):
    data, transforms = fitted
    folder.mkdir()
    build_contract(
        gathered,
        data,
        transforms.schema,
        vocabularies=transforms.vocabularies,
        columns={},
    ).save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def gathered_of(fitted, bounds, **options):
    data, transforms = fitted
    gathered = Gathering(data, transforms.schema, expected_rows=(720, 90, 90))
    for part in pieces(fitted, bounds, **options):
        gathered.update(*part)
    return gathered


@pytest.mark.parametrize("bounded", [False, True])
def test_a_contract_is_the_same_however_rows_are_cut_and_merged(
    fitted, bounded, tmp_path, monkeypatch
):
    if bounded:
        monkeypatch.setattr(sample_module, "MAX_ROWS", 100)
        monkeypatch.setattr(sample_module, "_MIN_ROWS", 1)
        monkeypatch.setattr(row_hashes_module, "MAX_HASHES", 64)
    data, transforms = fitted
    whole = gathered_of(fitted, [0, 900])
    cut = gathered_of(fitted, [0, 17, 400, 401, 800, 900])
    merged = Gathering(data, transforms.schema, expected_rows=(720, 90, 90))
    for part in reversed(list(pieces(fitted, [0, 300, 777, 900]))):
        own = Gathering(data, transforms.schema, expected_rows=(720, 90, 90))
        own.update(*part)
        merged.merge(own.to_bytes())
    expected = contract_text(fitted, whole, tmp_path / "whole")
    assert contract_text(fitted, cut, tmp_path / "cut") == expected
    assert contract_text(fitted, merged, tmp_path / "merged") == expected
    if bounded:
        assert len(whole.groups[0].sample) <= 100
        assert whole.groups[0].rows.hashes().size <= 64


def test_rows_are_equal_where_their_hashes_are(fitted):
    rows = concatenate_rows([part[1] for part in pieces(fitted, [0, 450, 900])])
    doubled = concatenate_rows([rows, rows])
    hashes = row_hashes(doubled, np.arange(1800))
    assert (hashes[:900] == hashes[900:]).all()
    assert np.unique(hashes).size == 900


@pytest.mark.parametrize("array", ["labels", "dense", "one_hot", "bag_values"])
def test_any_change_of_a_row_changes_its_hash(fitted, array):
    _, rows, _ = next(pieces(fitted, [0, 200]))
    before = row_hashes(rows, np.arange(200))
    values = getattr(rows, array)
    other = dataclasses.replace(rows, **{array: values + values.dtype.type(1)})
    after = row_hashes(other, np.arange(200))
    has_bag = rows.bag_lengths.sum(axis=1) > 0
    changed = has_bag if array == "bag_values" else np.ones(200, dtype=bool)
    assert (before[changed] != after[changed]).all()
    assert (before[~changed] == after[~changed]).all()


def test_the_order_of_a_bag_counts(fitted):
    data, transforms = fitted
    columns = {name: [1.0, 1.0] for name in ("price", "age", "hour", "when")}
    columns |= {"label": [0, 0], "shop": ["s1"] * 2, "item": ["i1"] * 2}
    columns |= {"row": [1, 2], "part": ["train"] * 2}
    bags = [["t1", "t2"], ["t2", "t1"]]
    rows = transforms.encode(typed_rows(data, {**columns, "tags": bags}))
    first, second = row_hashes(rows, np.arange(2))
    assert first != second


def test_a_bounded_sketch_estimates_the_share_of_equal_rows(fitted, monkeypatch):
    monkeypatch.setattr(row_hashes_module, "MAX_HASHES", 2000)
    rng = np.random.default_rng(5)
    known, new = HashSketch(), HashSketch()
    content = rng.integers(0, 2**63, 40_000).astype(np.uint64) * np.uint64(2)
    # 30 % of the new rows are known ones.
    fresh = rng.integers(0, 2**63, 28_000).astype(np.uint64) * np.uint64(2)
    for sketch, rows in ((known, content), (new, [*content[:12_000], *fresh])):
        keys = np.array(rows, dtype=np.uint64)
        keys = keys[keys <= np.uint64(sketch.limit)]
        sketch.add(keys, keys)
    limit = min(known.limit, new.limit)
    share = np.isin(new.hashes(limit), known.hashes(limit)).mean()
    assert known.hashes().size <= 2000
    assert share == pytest.approx(0.3, abs=0.06)


def test_equal_rows_have_equal_keys(fitted):
    _, rows, _ = next(pieces(fitted, [0, 300]))
    schema = fitted[1].schema
    doubled = concatenate_rows([rows, rows])
    keys = quick_keys(doubled, schema)
    assert (keys[:300] == keys[300:]).all()
    assert np.unique(keys).size > 250
