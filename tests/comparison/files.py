"""Files of predictions, as a run or another framework would leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

NUM_ROWS = 400


def frame(*, skill: float = 1.0, seed: int = 0, num_rows: int = NUM_ROWS):
    """Return one model's predictions: the same rows and labels for every seed."""
    rows, noise = np.random.default_rng(0), np.random.default_rng([1, seed])
    labels = (rows.random(num_rows) < 0.3).astype(np.int8)
    logits = skill * labels + noise.normal(size=num_rows) - 1.2
    return pd.DataFrame(
        {
            "row": np.arange(num_rows),
            "label": labels,
            "logit": logits.astype(np.float32),
            "probability": 1 / (1 + np.exp(-logits.astype(np.float32).astype(float))),
            "weight": np.ones(num_rows, dtype=np.float32),
            "user": rows.integers(0, 50, num_rows),
            "device": rows.choice(["phone", "tv"], num_rows),
        }
    )


def write_run(
    folder: Path, predictions: pd.DataFrame, *, split="test", group: str | None = None
) -> Path:
    """Write what ``dlrm compare`` reads of a run directory."""
    place = folder / "evaluation" / split
    place.mkdir(parents=True)
    predictions.to_parquet(place / "predictions.parquet")
    text = f"data:\n  group_column: {group or 'null'}\n"
    (folder / "config.yaml").write_text(text)
    return folder
