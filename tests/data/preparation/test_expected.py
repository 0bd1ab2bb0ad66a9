"""What is known of a dataset without preparing it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.data.preparation.expected import ASSUMED_LENGTH, expect_dataset, find_dataset
from dlrm.data.sources.criteo_multi_hot import BAG_SIZES
from dlrm.data.storage.dataset import Dataset
from tests.runs import tiny_config


def test_a_prepared_dataset_tells_its_sizes_and_lengths(prepared: Path, tmp_path: Path):
    data = tiny_config(tmp_path, prepared=prepared).data
    folder = find_dataset(data)
    assert folder is not None
    expected, dataset = expect_dataset(data), Dataset.open(folder)
    assert expected.folder == folder
    assert expected.schema == dataset.schema
    rows = dataset.split("train")
    lengths = rows.gather(np.arange(rows.num_rows)).bag_lengths.mean(axis=0)
    names = [feature.name for feature in dataset.schema.multi_hot]
    assert expected.average_lengths == dict(zip(names, lengths.tolist(), strict=True))


def test_data_that_is_not_prepared_is_not_prepared_now(tmp_path: Path):
    data = tiny_config(tmp_path).data
    assert find_dataset(data) is None
    with pytest.raises(ConfigError, match="counted in the data, which is not prepared"):
        expect_dataset(data)
    assert list(tmp_path.iterdir()) == []


def test_criteos_bags_have_the_lengths_they_will_be_drawn_with(tmp_path: Path):
    overrides = ["data=criteo_1tb_multi_hot", f"data.prepared={tmp_path}"]
    expected = expect_dataset(compose(overrides).data)
    assert list(expected.average_lengths.values()) == [float(n) for n in BAG_SIZES]
    assert expected.assumed == ()
    assert sum(f.num_embeddings for f in expected.schema.sparse) == 204_184_588


def test_lengths_that_nobody_knows_are_assumed_and_said_so(tmp_path: Path):
    data = compose([f"data.prepared={tmp_path}"]).data
    data.sparse_features = {
        name: dataclasses.replace(feature, num_embeddings=5, multi_hot=True)
        for name, feature in list(data.sparse_features.items())[:2]
        if feature.encoding.value == "vocabulary"
    }
    first, *rest = data.sparse_features
    data.sparse_features[first].max_length = 4
    expected = expect_dataset(data)
    assert expected.average_lengths[first] == 4.0
    assert [expected.average_lengths[name] for name in rest] == (
        [ASSUMED_LENGTH] * len(rest)
    )
    assert expected.assumed == tuple(rest)
