"""What several files of tests on tables share."""

from __future__ import annotations

import pytest


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose kernels as where nothing was compiled."""
    monkeypatch.setattr("dlrm.embeddings.native_bags.why_absent", lambda: "not built")
