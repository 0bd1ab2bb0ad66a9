"""The command line that is killed and made to fail, and what must come of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.faults.lives import live

ROOT = Path(__file__).parents[2]
DATA = (
    "data=clicks", f"data.source={ROOT / 'data' / 'clicks.csv'}",
    "data.prepared=prepared", "data.num_workers=1",
)  # fmt: skip
"""One worker: what the shim is to see must happen in this process."""
PREPARE = ("prepare", *DATA)
COMMAND = (
    "train", *DATA, "output=outputs", "run_name=run", "resume=true",
    "model.embedding_dim=4", "model.bottom_mlp=[8]", "model.top_mlp=[8]",
    "model.dropout=0.2", "trainer.global_batch_size=128", "trainer.num_epochs=4",
    "trainer.log_every=1", "trainer.checkpoint_every=3", "trainer.evaluate_every=5",
    "trainer.average_decay=0.9", "trainer.early_stopping_patience=50",
    "trainer.num_threads=1", "optimizer.schedule.warmup_steps=4",
    "optimizer.schedule.decay=cosine", "logger.tensorboard=false",
)  # fmt: skip
SHORT = (
    *(text for text in COMMAND if "_every=" not in text and "epochs=" not in text),
    "trainer.num_epochs=1", "trainer.log_every=6", "trainer.evaluate_every=6",
    "trainer.keep_checkpoints=1",
)  # fmt: skip
"""The same with fewer calls on files, for whoever lets each of them fail."""
NOT_REPEATED = ("examples_per_second",)
"""What a record says of the clock."""


def observed(folder: Path) -> dict[str, object]:
    """Return all that must be the same of a run and its dataset, by file."""
    found: dict[str, object] = {}
    manifest = folder / "outputs" / "run" / "manifest.json"
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "metrics.jsonl":
            found[name] = [_repeated(line) for line in path.read_text().splitlines()]
        elif path == manifest or path.suffix in (".html", ".md", ".lock"):
            found[name] = "there"  # They hold times and paths.
        else:
            found[name] = path.read_bytes()
    return found


def _repeated(line: str) -> dict[str, object]:
    return {k: v for k, v in json.loads(line).items() if k not in NOT_REPEATED}


def copied_preset(top: Path, folder: Path) -> None:
    """Give ``folder`` the preset of data/clicks.csv, made once below ``top``."""
    source = top / "preset"
    if not source.exists():
        from dlrm.commands.init import main as init

        source.mkdir(parents=True)
        table = str(ROOT / "data" / "clicks.csv")
        life = live(lambda: init([table, "label=clicked"]), folder=source)
        assert life.code == 0, life.output
    shutil.copytree(source / "conf", folder / "conf")
