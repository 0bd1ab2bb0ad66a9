"""Tiny training runs that many tests build on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dlrm.config.compose import compose
from dlrm.config.root import Config

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


def digest(folder: Path) -> dict[str, str]:
    """Return a hash of every file below ``folder``, by relative name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
