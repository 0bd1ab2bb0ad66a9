from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlrm.config.errors import WriteError
from dlrm.data.storage.npy import save_npy
from dlrm.metrics.group_spill import SpilledGroups

ARRAYS = {
    "uint64": np.arange(5, dtype=np.uint64),
    "a matrix": np.arange(60_000, dtype=np.float32).reshape(-1, 6),
    "by columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "none": np.zeros((0, 3), dtype=np.int32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_the_file_is_numpys_own(tmp_path, name):
    save_npy(tmp_path / "ours.npy", ARRAYS[name])
    np.save(tmp_path / "numpys.npy", ARRAYS[name])
    ours = (tmp_path / "ours.npy").read_bytes()
    assert ours == (tmp_path / "numpys.npy").read_bytes()


@pytest.mark.parametrize("name", ARRAYS)
def test_a_full_disk_is_named(name):
    with pytest.raises(WriteError, match="/dev/full needs free space, but the disk is"):
        save_npy(Path("/dev/full"), ARRAYS[name])


def test_a_full_disk_is_the_reason_where_groups_are_spilled(monkeypatch):
    monkeypatch.setattr(SpilledGroups, "_file", lambda *_: Path("/dev/full"))
    rows = np.arange(2000)
    with SpilledGroups() as groups, pytest.raises(OSError, match="No space left"):
        groups.update(rows % 2, rows / 7, np.ones(2000), (rows % 50).astype(np.uint64))
