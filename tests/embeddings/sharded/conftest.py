from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.embeddings.sharded.ranks import Ranks

POOLS = {"one_rank", "two_ranks", "ranks"}


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


@pytest.fixture(params=[1, 2], ids=["1 rank", "2 ranks"])
def ranks(request: pytest.FixtureRequest) -> Ranks:
    return request.getfixturevalue("one_rank" if request.param == 1 else "two_ranks")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Keep all that needs ranks in one test process, so that they start once."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if POOLS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("ranks"))
