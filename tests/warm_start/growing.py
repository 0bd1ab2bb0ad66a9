"""Small runs whose vocabularies grow, shrink and change their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from dlrm.config.compose import compose
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.vocabulary import vocabulary_path
from dlrm.run import Run, create_run
from dlrm.trainer import Trainer

PRESET = {
    "name": "growing",
    "format": "table",
    "label": "clicked",
    "dense_features": {"price": {}},
    "sparse_features": {
        "item": {},
        "shop": {"encoding": "hash", "num_embeddings": 6},
        "slot": {"encoding": "identity", "num_embeddings": 5},
        "age": {"encoding": "bucketize", "boundaries": [20.0, 40.0]},
    },
    "split": "source",
}
SETTINGS = (
    "data=growing", "model.top_mlp=[5]",
    "trainer.global_batch_size=16", "trainer.num_threads=1", "trainer.log_every=1",
    "logger.tensorboard=false", "optimizer.schedule.warmup_steps=0",
)  # fmt: skip


def write_preset(folder: Path) -> None:
    """Write ``conf/data/growing.yaml``; make ``folder`` the current one."""
    place = folder / "conf" / "data"
    place.mkdir(parents=True)
    (place / "growing.yaml").write_text(yaml.safe_dump(PRESET))


def rows_of(items: dict[str, int], *, seed: int = 0) -> pd.DataFrame:
    """Return rows in which each item comes as often as ``items`` says."""
    random = np.random.default_rng(seed)
    column = [item for item, count in items.items() for _ in range(count)]
    size = len(column)
    return pd.DataFrame(
        {
            "clicked": random.integers(0, 2, size),
            "price": random.normal(size=size),
            "item": column,
            "shop": random.integers(0, 30, size),
            "slot": random.integers(0, 5, size),
            "age": random.integers(10, 60, size),
        }
    )


def trainer_of(
    rows: pd.DataFrame, name: str, *extra: str, dim: int = 4
) -> tuple[Trainer, list[str]]:
    """Return a trainer of a new run below the current folder, and what it reports."""
    config = compose(
        [*SETTINGS, f"model.embedding_dim={dim}", f"run_name={name}", *extra]
    )
    frame = {"train": rows}
    folder = prepare_dataset(config.data, frame=frame)
    run = create_run(config, dataset=folder, code=[])
    lines: list[str] = []
    return Trainer(run, Dataset.open(folder), report=lines.append), lines


def again(run: Run) -> Trainer:
    """Return a trainer as a new process would make it."""
    dataset = Dataset.open(Path(run.manifest()["dataset"]))
    return Trainer(run, dataset, report=lambda line: None)


def item_rows(run: Run) -> dict[str, int]:
    """Return each item's row, read from the vocabulary file itself."""
    keys = pq.read_table(vocabulary_path(run.folder, "item"))["key"].to_pylist()
    return {key: row for row, key in enumerate(keys, start=1)}
