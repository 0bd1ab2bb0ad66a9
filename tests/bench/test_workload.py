"""A workload is a dataset of the stated shape, whose ids follow Zipf's law."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlrm.bench.workload import workload_data, workload_dataset, zipf_ids
from dlrm.config.errors import ConfigError
from dlrm.config.workload import WorkloadConfig
from dlrm.data.storage.dataset import Dataset
from tests.runs import digest


def workload(**settings: object) -> WorkloadConfig:
    return WorkloadConfig(
        **{
            "name": "tiny", "table_rows": [50, 3, 40, 20], "bag_lengths": [1, 4, 1, 2],
            "num_dense": 2, "num_rows": 3000, **settings,
        }
    )  # fmt: skip


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.05, 2.0])
def test_ids_have_the_probabilities_of_zipfs_law(exponent: float):
    num_rows, draws = 20, 200_000
    random = np.random.default_rng(0)
    ids = zipf_ids(random, num_rows, exponent, (draws // 4, 4))
    assert (ids.shape, ids.dtype) == ((draws // 4, 4), np.int32)
    weights = np.array([k**-exponent for k in range(1, num_rows + 1)])
    expected = draws * weights / weights.sum()
    found = np.bincount(ids.ravel(), minlength=num_rows)
    # 5 standard deviations of a binomial count.
    deviations = np.sqrt(expected * (1 - expected / draws))
    assert (np.abs(found - expected) < 5 * deviations + 1).all()


def test_a_table_of_one_row_has_one_id():
    ids = zipf_ids(np.random.default_rng(0), 1, 1.05, (5, 2))
    assert (ids == 0).all()


def test_a_dataset_has_the_stated_shape(tmp_path: Path):
    config = workload()
    dataset = Dataset.open(workload_dataset(config, prepared=str(tmp_path)))
    schema = dataset.schema
    assert {name: schema.num_rows(name) for name in schema.splits} == {
        "train": 3000, "valid": 0, "test": 0,
    }  # fmt: skip
    assert schema.num_dense == 2
    assert [feature.num_embeddings for feature in schema.sparse] == config.table_rows
    rows = dataset.split("train").gather(np.arange(3000))
    assert rows.one_hot.shape == (3000, 2)
    assert (rows.bag_lengths == [4, 2]).all()
    assert rows.bag_values.size == 3000 * 6
    assert rows.one_hot.min(axis=0).tolist() == [0, 0]
    assert (rows.one_hot.max(axis=0) < [50, 40]).all()
    bags = rows.bag_values.reshape(3000, 6)
    assert (bags[:, :4].max(), bags[:, 4:].max()) == (2, 19)
    assert set(rows.labels) == {0.0, 1.0}
    # Clicks are flips of a coin that falls on 1 in a quarter of all cases.
    assert abs(rows.labels.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 3000)


def test_a_dataset_is_written_once_and_is_a_function_of_its_config(tmp_path: Path):
    first = workload_dataset(workload(), prepared=str(tmp_path / "a"))
    again = workload_dataset(workload(), prepared=str(tmp_path / "b"))
    assert digest(first) == digest(again)
    (first / "mark").touch()
    assert workload_dataset(workload(), prepared=str(tmp_path / "a")) == first
    assert (first / "mark").is_file()
    other = workload_dataset(workload(seed=1), prepared=str(tmp_path / "a"))
    assert other != first
    left = {path.name for path in (tmp_path / "a").iterdir()}
    assert left == {first.name, other.name}


def test_its_data_section_names_every_feature():
    data = workload_data(workload(), prepared="there")
    assert list(data.dense_features) == ["d0", "d1"]
    features = data.sparse_features
    assert [features[f"s{i}"].multi_hot for i in range(4)] == [False, True, False, True]


def test_a_length_for_each_table_is_required():
    with pytest.raises(ConfigError, match=r"one length a table \(4\).*2 lengths"):
        workload(bag_lengths=[1, 2])
