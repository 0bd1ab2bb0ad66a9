"""What is done at a run's start beside the import of torch."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from dlrm.commands.starting import OpenedAhead, imports_without_pauses
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.sources import open_source
from dlrm.data.storage.dataset import Dataset
from tests.runs import tiny_config


def test_a_prepared_dataset_is_opened_and_checked_ahead(tmp_path: Path):
    data = tiny_config(tmp_path).data
    opened = OpenedAhead(data, open_source(data))
    assert opened.take(tmp_path / "anything") is None, "it is not prepared yet"
    folder = prepare_dataset(data)
    dataset = OpenedAhead(data, open_source(data)).take(folder)
    assert dataset is not None
    assert dataset.folder == folder
    assert dataset.split("train").num_rows == 3200


def test_a_damaged_dataset_is_left_to_whoever_needs_it(tmp_path: Path):
    data = tiny_config(tmp_path).data
    folder = prepare_dataset(data)
    records = next(folder.glob("train/*/rows.bin"))
    content = bytearray(records.read_bytes())
    content[100] ^= 1
    records.write_bytes(content)
    assert OpenedAhead(data, open_source(data)).take(folder) is None


def test_only_the_dataset_that_is_asked_for_is_given(tmp_path: Path):
    data = tiny_config(tmp_path).data
    prepare_dataset(data)
    assert OpenedAhead(data, open_source(data)).take(tmp_path / "other") is None


def test_ranks_that_do_not_check_open_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = tiny_config(tmp_path).data
    folder = prepare_dataset(data)
    monkeypatch.setattr(Dataset, "open", lambda *_, **__: pytest.fail("opened"))
    second = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    for name, value in {**second, "MASTER_ADDR": "h", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert OpenedAhead(data, open_source(data)).take(folder) is None


def test_garbage_is_searched_for_again_after_the_imports():
    def fail() -> None:
        assert not gc.isenabled()
        raise ImportError

    with pytest.raises(ImportError), imports_without_pauses():
        fail()
    assert gc.isenabled()
