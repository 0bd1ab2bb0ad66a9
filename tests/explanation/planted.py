"""A log whose causes are known, and a quick run on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dlrm.run import Run

SETTINGS = (
    "data=planted", "run_name=run", "trainer.num_threads=1", "trainer.log_every=1000",
    "trainer.num_epochs=2", "trainer.global_batch_size=128",
    "logger.tensorboard=false", "optimizer.schedule.warmup_steps=0",
    "optimizer.dense.lr=0.02", "optimizer.sparse.lr=0.1",
)  # fmt: skip
REAL, USELESS = ("x", "shop", "tags"), ("noise", "coin", "twin")


def log(num_rows: int, *, num_noise: int = 0, seed: int = 0) -> pd.DataFrame:
    """Return rows whose clicks come from ``x``, ``shop`` and ``tags`` alone."""
    random = np.random.default_rng(seed)
    x = random.normal(size=num_rows)
    shop = random.integers(0, 12, num_rows)
    tags = random.integers(0, 2, (num_rows, 3)).astype(bool)
    worth = np.linspace(-2, 2, 12)[shop]
    logit = 1.5 * x + worth + 1.2 * tags[:, 0] - 1.2 * tags[:, 1] - 0.5
    names = np.array(["good", "bad", "[neutral]"])
    frame = {
        "clicked": (random.random(num_rows) < 1 / (1 + np.exp(-logit))).astype(int),
        "x": x,
        "noise": random.normal(size=num_rows),
        "shop": [f"shop {i}" for i in shop],
        "coin": random.integers(0, 30, num_rows),
        "twin": random.integers(0, 500, num_rows),
        "tags": ["|".join(names[own]) for own in tags],
        "user": random.integers(0, num_rows // 4, num_rows),
    }
    noise = random.normal(size=(num_noise, num_rows))
    return pd.DataFrame(frame | {f"n{i}": column for i, column in enumerate(noise)})


def train_planted(
    folder: Path, rows: pd.DataFrame, *settings: str, **data: object
) -> Run:
    """Train logistic regression, or another model, on a planted log."""
    import dlrm

    place = folder / "conf" / "data"
    place.mkdir(parents=True)
    noise = [name for name in rows.columns if name[0] == "n"]
    preset = {
        "name": "planted",
        "format": "table",
        "label": "clicked",
        "dense_features": {name: {} for name in ("x", *noise)},
        "sparse_features": {
            "shop": {},
            "coin": {"encoding": "hash", "num_embeddings": 40},
            "twin": {"encoding": "identity", "num_embeddings": 600},
            "tags": {"multi_hot": True, "delimiter": "|"},
        },
        "split": "random",
        "split_fractions": [0.5, 0.1, 0.4],
        **data,
    }
    (place / "planted.yaml").write_text(yaml.safe_dump(preset))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return dlrm.train(
            *SETTINGS,
            f"output={folder / 'outputs'}",
            f"data.prepared={folder / 'prepared'}",
            *settings,
            frame=rows,
            report=lambda line: None,
        )
