"""Fixtures that every test may use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dlrm.config.environment import read_environment


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of public data sets, or skip."""
    folder = read_environment().real_data
    if folder is None:
        pytest.skip("needs public data sets: set DLRM_REAL_DATA to their folder")
    if not folder.is_dir():
        pytest.skip(f"needs public data sets: DLRM_REAL_DATA={folder} is no folder")
    return folder


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a fresh folder the current directory, and return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Test processes share the cores. Only what has imported torch already pays for it.
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for public data sets."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)
