from __future__ import annotations

import subprocess
import sys

import pytest

from dlrm.data.preparation.claim import claimed, remove_abandoned


def test_a_claimed_folder_is_empty_and_gone_afterwards(tmp_path):
    folder = tmp_path / "deep" / ".tmp-a"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    with claimed(folder):
        assert list(folder.iterdir()) == []
        (folder / "new").write_text("y")
    assert not folder.exists()
    assert tmp_path.exists()


def test_a_claimed_folder_is_gone_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / ".tmp-a"):
        raise KeyboardInterrupt
    assert not (tmp_path / ".tmp-a").exists()


def test_only_what_nobody_holds_is_abandoned(tmp_path):
    (tmp_path / ".tmp-dead").mkdir()
    (tmp_path / "dataset").mkdir()
    with claimed(tmp_path / ".tmp-alive"):
        remove_abandoned(tmp_path, ".tmp-*")
        assert {path.name for path in tmp_path.iterdir()} == {".tmp-alive", "dataset"}


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dlrm.data.preparation.claim import claimed\n"
        "with claimed(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    folder = tmp_path / ".tmp-a"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert folder.exists()
    with claimed(folder):
        assert list(folder.iterdir()) == []
    assert not folder.exists()
