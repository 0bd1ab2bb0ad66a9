"""Fixtures that every test may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dlrm.config.environment import read_environment
from tests.embeddings.sharded.ranks import Ranks
from tests.runs import ClicksRun, tiny_config, tiny_overrides, train_clicks

if TYPE_CHECKING:
    from dlrm.run import Run

POOLS = {"one_rank", "two_ranks", "four_ranks", "ranks"}
"""Fixtures of processes that stay up for all tests that need ranks."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of public data sets, or skip."""
    folder = read_environment().real_data
    if folder is None:
        pytest.skip("needs public data sets: set DLRM_REAL_DATA to their folder")
    if not folder.is_dir():
        pytest.skip(f"needs public data sets: DLRM_REAL_DATA={folder} is no folder")
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the dataset of tiny runs is prepared already."""
    from dlrm.data.preparation.prepare import prepare_dataset

    folder = tmp_path_factory.mktemp("prepared")
    prepare_dataset(tiny_config(folder, prepared=folder).data)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Run:
    """Return a tiny run, trained and evaluated. Tests must leave it as it is."""
    from dlrm.commands.train import train

    folder = tmp_path_factory.mktemp("trained")
    overrides = tiny_overrides(folder, "run_name=run", prepared=prepared)
    return train(*overrides, report=lambda line: None)


@pytest.fixture(scope="session")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> ClicksRun:
    """Return a run on data/clicks.csv. Tests must leave it as it is."""
    return train_clicks(tmp_path_factory.mktemp("clicks"))


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a fresh folder the current directory, and return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed() -> None:
    # Test processes share the cores, and a test that draws must draw the same numbers
    # whatever ran before it. Only what has imported torch already pays for it.
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def one_rank() -> Iterator[Ranks]:
    ranks = Ranks(1)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="session")
def four_ranks() -> Iterator[Ranks]:
    ranks = Ranks(4)
    yield ranks
    ranks.stop()


@pytest.fixture(params=[1, 2], ids=["1 rank", "2 ranks"])
def ranks(request: pytest.FixtureRequest) -> Ranks:
    return request.getfixturevalue("one_rank" if request.param == 1 else "two_ranks")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark what asks for public data sets, and keep what needs ranks in one process."""
    grouped = config.pluginmanager.hasplugin("xdist")
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "real_data" in fixtures:
            item.add_marker(pytest.mark.real_data)
        # The ranks then start once.
        if grouped and POOLS & fixtures:
            item.add_marker(pytest.mark.xdist_group("ranks"))
