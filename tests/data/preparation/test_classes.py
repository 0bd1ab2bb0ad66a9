"""Labels that are classes, from raw rows to batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dlrm.config.data import Split
from dlrm.config.errors import DataError
from dlrm.config.features import SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.schema import FeatureSchema
from dlrm.data.loading.collate import collate
from dlrm.data.preparation.prepare import describe_dataset, prepare_dataset
from dlrm.data.storage.dataset import Dataset
from tests.data.raw import config

FRAMES = {
    "train": pd.DataFrame(
        {
            "tags": ["b|a", "b", "", "c|b", "a"],
            "shop": ["x", "y", "x", "x", "y"],
            "ids": ["1|2", "", "3", "1", "2|2|2"],
            "factors": ["1|2", "", "3", "1", "2|2|2"],
        }
    ),
    "test": pd.DataFrame(
        {
            "tags": ["z|a", "z"],
            "shop": ["x", "q"],
            "ids": ["1", "9"],
            "factors": ["1", "1"],
        }
    ),
}
"""Classes b (3 times), a (2) and c (1) in training; z never."""


def prepare(tmp_path, **settings):
    data = config(
        label="tags",
        label_kind=LabelKind.multilabel,
        label_delimiter="pipe",
        split=Split.source,
        prepared=str(tmp_path),
        sparse={
            "shop": SparseFeature(),
            "ids": SparseFeature(
                multi_hot=True, delimiter="pipe", weight_column="factors"
            ),
        },
    )
    data = dataclasses.replace(data, **settings)
    return Dataset.open(prepare_dataset(data, frame=FRAMES))


def classes_of(batch):
    ids = batch.classes.values().tolist()
    ends = np.cumsum(batch.classes.lengths().numpy()).tolist()
    return [ids[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def test_classes_are_numbered_by_frequency_and_unknown_ones_kept(tmp_path):
    dataset = prepare(tmp_path)
    schema = dataset.schema
    assert (schema.num_classes, schema.num_outputs) == (3, 3)
    rows = dataset.split("train").slice(0, 5)
    batch = collate(rows, np.arange(5), schema)
    assert [sorted(row) for row in classes_of(batch)] == [[0, 1], [0], [], [0, 2], [1]]
    assert batch.labels.tolist() == [0.0] * 5
    rows = dataset.split("test").slice(0, 2)
    batch = collate(rows, np.arange(2), schema, batch_size=3)
    assert [sorted(row) for row in classes_of(batch)] == [[-1, 1], [-1], []]


def test_features_know_nothing_of_the_bag_of_classes(tmp_path):
    dataset = prepare(tmp_path)
    schema = dataset.schema
    rows = dataset.split("train").gather(np.array([4, 0]))
    batch = collate(rows, np.array([4, 0]), schema)
    assert [sorted(row) for row in classes_of(batch)] == [[1], [0, 1]]
    bags = batch.sparse["weighted"]["ids"]
    assert bags.lengths().tolist() == [3, 2]
    assert bags.weights().tolist() == [2.0, 2.0, 2.0, 1.0, 2.0]
    assert sorted(schema.tables) == ["ids", "shop"]


def test_the_schema_comes_back_from_its_file(tmp_path):
    schema = prepare(tmp_path).schema
    assert FeatureSchema.from_json(schema.to_json()) == schema


def test_the_kind_of_label_shapes_the_dataset(tmp_path):
    first = prepare(tmp_path)
    one = prepare(
        tmp_path,
        label="shop",
        label_kind=LabelKind.multiclass,
        label_delimiter=None,
        sparse_features={"ids": SparseFeature(multi_hot=True, delimiter="pipe")},
    )
    assert one.folder != first.folder
    assert one.schema.num_classes == 2
    rows = one.split("test").slice(0, 2)
    assert classes_of(collate(rows, np.arange(2), one.schema)) == [[0], [-1]]


def test_a_batch_moves_with_its_classes(tmp_path):
    dataset = prepare(tmp_path)
    rows = dataset.split("train").slice(0, 5)
    batch = collate(rows, np.arange(5), dataset.schema)
    assert classes_of(batch.to("cpu")) == classes_of(batch)


def test_a_row_without_its_one_class_is_named(tmp_path):
    with pytest.raises(DataError, match="'tags' must be one class, as data.label_kind"):
        prepare(
            tmp_path,
            label_kind=LabelKind.multiclass,
            label_delimiter=None,
        )


def test_a_single_class_is_refused(tmp_path):
    frame = pd.DataFrame({"tags": ["a", "a"], "shop": ["x", "y"]})
    data = config(
        label="tags",
        label_kind=LabelKind.multiclass,
        split_fractions=[1.0, 0.0, 0.0],
        prepared=str(tmp_path),
        sparse={"shop": SparseFeature()},
    )
    with pytest.raises(DataError, match=r"two classes or more, but column 'tags' .* 1"):
        prepare_dataset(data, frame=frame)


def test_the_summary_counts_classes_in_place_of_clicks(tmp_path):
    text = describe_dataset(prepare(tmp_path).folder)
    assert "3 classes" in text
    assert "click" not in text.partition("\n")[2]
