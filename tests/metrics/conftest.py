"""Every test of metrics draws its own numbers, whichever test ran before it."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fresh_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if hasattr(request.module, "RANDOM"):
        monkeypatch.setattr(request.module, "RANDOM", np.random.default_rng(5))
