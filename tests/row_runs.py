"""Tiny runs of each judge's task, and rows of any number for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist

from dlrm import scoring
from dlrm.commands.train import train
from dlrm.data.sources import frames
from dlrm.distributed.job import Job, job_over
from dlrm.run import Run

BATCH, CHUNK = 8, 24
"""Rows scored at a time, and rows of a chunk of input, in these tests."""


def awkward_sizes(batch: int, world_size: int) -> list[int]:
    """Return numbers of rows that no equal share or whole batch covers."""
    rests = sorted({0, 1, world_size - 1, batch - 1})
    return sorted({max(1, world_size - 1), *(2 * batch + rest for rest in rests)})


def quiet(line: str) -> None:
    """Print nothing."""


def clicks_frame(num_rows: int) -> pd.DataFrame:
    random = np.random.default_rng(num_rows)
    return pd.DataFrame(
        {
            "visit": [f"v{i}" for i in range(num_rows)],
            "clicked": (random.random(num_rows) < 0.4).astype(int),
            "price": random.random(num_rows).round(3),
            "user": [f"u{i}" for i in random.integers(0, 20, num_rows)],
            "film": [f"f{i}" for i in random.integers(0, 9, num_rows)],
            "topics": [
                "|".join(f"t{i}" for i in random.integers(0, 6, n))
                for n in random.integers(0, 4, num_rows)
            ],
        }
    )


def classes_frame(num_rows: int) -> pd.DataFrame:
    frame = clicks_frame(num_rows)
    return frame.assign(clicked=frame["film"].str.replace("f", "class "))


PRESET = """
name: rows
format: table
label: clicked
id_column: visit
sparse_features:
  user: {}
  film: {}
  topics: {multi_hot: true, delimiter: pipe}
"""
COMMON = (
    "data=rows", "trainer.num_threads=1", "trainer.global_batch_size=64",
    "logger.tensorboard=false", "model.embedding_dim=4", "run_name=run",
)  # fmt: skip
KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "clicks": (
        clicks_frame,
        (
            "+data.dense_features={price: {}}",
            "model.bottom_mlp=[8]",
            "model.top_mlp=[8]",
            "model.dropout=0",
            "sharding.strategy=row_wise",
        ),
    ),
    "classes": (
        classes_frame,
        ("data.label_kind=multiclass", "model=fasttext", "task.top_k=[3]"),
    ),
    "documents": (
        clicks_frame,
        (
            "model=two_tower",
            "task.name=retrieval",
            "model.query_features=[user]",
            "model.document_features=[film,topics]",
        ),
    ),
}


def tiny_run(kind: str, folder: Path) -> Run:
    frame, settings = KINDS[kind]
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "conf" / "data" / "rows.yaml").write_text(PRESET)
    place = (f"output={folder}", f"data.prepared={folder}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(*COMMON, *settings, *place, frame=frame(400), report=quiet)


@contextmanager
def small_batches() -> Iterator[None]:
    """Score few rows at a time, and read few at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_BATCH_SIZE", BATCH)
        patch.setattr(frames, "_ROWS_PER_CHUNK", CHUNK)
        yield


def on_rank(group: dist.ProcessGroup, work: Callable[[Job], Any]) -> Any:
    """Return what ``work`` returns on this rank, scoring small batches."""
    with small_batches():
        return work(job_over(group))
