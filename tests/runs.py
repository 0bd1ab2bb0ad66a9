"""Tiny training runs that many tests build on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from dlrm.config.compose import compose
from dlrm.config.root import Config

if TYPE_CHECKING:
    from dlrm.run import Run

TINY = (
    "data=synthetic",
    "data.synthetic.num_rows=4000",
    "model.embedding_dim=4",
    "model.bottom_mlp=[8]",
    "model.top_mlp=[8]",
    "model.dropout=0.2",
    "trainer.global_batch_size=512",
    "trainer.log_every=2",
    "trainer.num_threads=1",
    "logger.tensorboard=false",
)
"""Seven steps an epoch, the last one short: 3,200 training rows."""


def tiny_overrides(
    folder: Path, *extra: str, prepared: Path | None = None
) -> list[str]:
    """Return the overrides of a tiny run below ``folder``."""
    place = [f"output={folder / 'outputs'}", f"data.prepared={prepared or folder}"]
    return [*TINY, *place, *extra]


def tiny_config(folder: Path, *extra: str, prepared: Path | None = None) -> Config:
    """Return the composed config of a tiny run below ``folder``."""
    return compose(tiny_overrides(folder, *extra, prepared=prepared))


CLICKS = Path(__file__).parents[1] / "data" / "clicks.csv"


@dataclass(frozen=True, slots=True)
class ClicksRun:
    """A run trained on data/clicks.csv, from the config that ``dlrm init`` wrote."""

    run: Run
    folder: Path
    """Holds ``conf/data/clicks.yaml``, ``prepared`` and ``outputs``."""

    @property
    def frame(self) -> pd.DataFrame:
        """The raw rows, as strings: nothing is parsed before dlrm parses it."""
        return pd.read_csv(CLICKS, dtype=str, keep_default_na=False)


def clicks_overrides(folder: Path, *extra: str) -> list[str]:
    """Return the overrides of a run on data/clicks.csv; ``folder`` holds its preset."""
    place = [f"output={folder / 'outputs'}", f"data.prepared={folder / 'prepared'}"]
    settings = [text for text in TINY if not text.startswith("data")]
    return ["data=clicks", "data.group_column=shop", *settings, *place, *extra]


def train_clicks(folder: Path) -> ClicksRun:
    """Take data/clicks.csv from ``dlrm init`` to an evaluated run below ``folder``."""
    from dlrm.commands.init import init
    from dlrm.commands.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        init(str(CLICKS), label="clicked")
        run = train(
            *clicks_overrides(folder, "run_name=run", "trainer.num_epochs=2"),
            report=lambda line: None,
        )
    return ClicksRun(run, folder)


def digest(folder: Path) -> dict[str, str]:
    """Return a hash of every file below ``folder``, by relative name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
