"""Every built-in model through the commands: tables of its own included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.train import resume, train
from tests.models.harness import CLICK_MODELS
from tests.runs import digest, tiny_overrides

pytestmark = pytest.mark.slow


def overrides(name: str, folder: Path, prepared: Path) -> list[str]:
    """Return a tiny run's overrides without the MLPs that only some models have."""
    own = [
        text
        for text in tiny_overrides(folder, prepared=prepared)
        if not text.startswith("model.") or text.startswith("model.embedding_dim")
    ]
    return [f"model={name}", *own, "optimizer.schedule.decay=constant"]


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_a_resumed_run_is_the_undisturbed_one_and_scores_alike(
    tmp_path: Path, prepared: Path, name: str
):
    settings = overrides(name, tmp_path, prepared)
    short = train(*settings, "run_name=short", report=lambda line: None)
    whole = train(
        *settings, "run_name=whole", "trainer.num_epochs=2", report=lambda line: None
    )
    resume(short.folder, "trainer.num_epochs=2", report=lambda line: None)
    last = "step_000000014"
    assert digest(short.checkpoints / last) == digest(whole.checkpoints / last)
    metrics = evaluate(whole.folder, split="test", report=lambda line: None)
    assert np.isfinite(metrics["log_loss"])
    scores = [
        pd.read_parquet(run.evaluation("test") / "predictions.parquet")["logit"]
        for run in (short, whole)
    ]
    np.testing.assert_array_equal(*scores)
