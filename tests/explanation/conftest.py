"""A run on the planted log for all tests of explanations."""

from __future__ import annotations

import pytest

from dlrm.run import Run
from tests.explanation.planted import log, train_planted


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of logistic regression. Tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("planted")
    return train_planted(
        folder, log(4000), "model=logistic_regression", group_column="user",
        keep=["shop", "user"],
    )  # fmt: skip
