import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.evaluation.slices.future import (
    FutureRows,
    future_of_rows,
    future_of_split,
    refuse_future,
    refuse_known_future,
    rows_of_the_future,
)

NAN = float("nan")


def test_training_rows_later_than_the_first_evaluated_one_leak():
    found = rows_of_the_future(
        [np.array([1.0, 5.0, 6.0]), np.zeros(0), np.array([NAN, 9.0]), np.zeros(0)],
        np.array([7.0, 5.0, NAN]),
        split="test",
    )
    assert found is not None
    assert (found.num_trained, found.num_later) == (4, 2)
    assert (found.last_trained, found.first_evaluated) == (9.0, 5.0)
    assert found.leaks
    assert FutureRows.of_record(found.record()) == found
    assert "2 of 4 training rows (50.0%)" in found.describe()
    assert "1970-01-01 00:00:05" in found.describe()


def test_rows_of_one_moment_are_no_leak():
    found = rows_of_the_future([np.array([1.0, 5.0])], np.array([5.0, 6.0]), split="v")
    assert found is not None
    assert not found.leaks
    assert rows_of_the_future([np.array([NAN])], np.array([1.0]), split="v") is None


def prepared(folder, patch, *settings):
    preset = folder / "conf" / "data" / "rows.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(
        "name: rows\nformat: table\nlabel: clicked\ntime_column: at\n"
        "sparse_features: {item: {}}\n"
    )
    patch.chdir(folder)
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "item": random.integers(0, 9, 500),
            "at": 1_000_000 + random.permutation(500) * 3_600,
            "clicked": random.integers(0, 2, 500),
        }
    )
    data = compose(["data=rows", f"data.prepared={folder}", *settings]).data
    return Dataset.open(prepare_dataset(data, frame=frame)), data


def test_a_split_by_time_never_leaks(tmp_path, monkeypatch):
    dataset, data = prepared(tmp_path, monkeypatch, "data.split=time")
    for split in ("valid", "test"):
        found = future_of_split(dataset, data, split=split)
        assert found is not None
        assert found.num_later == 0
    assert future_of_split(dataset, data, split="train") is None
    refuse_future(dataset, data)


def test_a_random_split_leaks_and_is_refused(tmp_path, monkeypatch):
    dataset, data = prepared(tmp_path, monkeypatch, "data.split=random")
    found = future_of_split(dataset, data, split="test")
    train = dataset.side("train")["at"].to_numpy()
    test = dataset.side("test")["at"].to_numpy()
    assert found is not None
    assert found.num_later == np.count_nonzero(train > test.min()) > 300
    with pytest.raises(ConfigError, match=r"(?s)data.split=random .* training rows"):
        refuse_future(dataset, data)
    data.time_column = None
    with pytest.raises(ConfigError, match="needs the times of the training rows"):
        refuse_future(dataset, data)


def test_new_rows_that_training_was_ahead_of_are_refused(tmp_path, monkeypatch):
    dataset, data = prepared(tmp_path, monkeypatch, "data.split=time")
    last = max(dataset.side("train")["at"].to_pylist())
    for moment, num_later in ((last, 0), (last + 9, 0), (last - 3_600, 1)):
        side = pa.table({"at": [last + 99, moment]})
        found = future_of_rows(dataset, data, side, name="monday")
        assert found is not None
        assert (found.split, found.num_later) == ("monday", num_later)
        if num_later:
            with pytest.raises(ConfigError, match="the first row of monday"):
                refuse_known_future(found, data)
        else:
            refuse_known_future(found, data)
    assert future_of_rows(dataset, data, pa.table({"x": [1]}), name="monday") is None
