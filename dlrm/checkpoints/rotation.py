"""Which checkpoints a run has, which is the best, and which are deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from dlrm.checkpoints.files import STATE_FILE
from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import RunError

BEST_FILE = "best.json"


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of a step's checkpoint."""
    return f"step_{step:09d}"


def list_checkpoints(root: Path) -> list[Path]:
    """Return the complete checkpoints under ``root``, oldest first."""
    return sorted(path for path in root.glob("step_*") if (path / STATE_FILE).is_file())


def mark_best(root: Path, *, step: int, metric: str, value: float) -> None:
    """Record which checkpoint is the best; ``root/best.json`` is replaced whole."""
    content = {"checkpoint": checkpoint_name(step), "step": step, metric: value}
    aside = root / f".{BEST_FILE}"
    aside.write_text(json.dumps(content) + "\n")
    flush_to_disk(aside)
    aside.replace(root / BEST_FILE)


def best_checkpoint(root: Path) -> Path:
    """Return the best checkpoint, or the newest where none was marked.

    Raises:
        RunError: There is no complete checkpoint, or the mark is damaged.
    """
    checkpoints = list_checkpoints(root)
    if not checkpoints:
        raise RunError(
            f"A run must hold a complete checkpoint, but {root} has none. "
            f"Train it first: dlrm train run={root.parent}"
        )
    if not (root / BEST_FILE).is_file():
        return checkpoints[-1]
    try:
        marked = root / json.loads((root / BEST_FILE).read_text())["checkpoint"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{root / BEST_FILE} must name the best checkpoint, but it is damaged. "
            f"Delete it to use the newest checkpoint."
        ) from error
    return marked if marked in checkpoints else checkpoints[-1]


def remove_old_checkpoints(root: Path, *, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and the best one."""
    best = best_checkpoint(root)
    for path in list_checkpoints(root)[:-keep]:
        if path != best:
            remove_checkpoint(path)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint; after any crash it is there whole or not at all."""
    shutil.rmtree(folder.rename(folder.with_name(f".removing-{folder.name}")))


def remove_abandoned(root: Path) -> None:
    """Delete what killed processes left of checkpoints half written or removed."""
    for abandoned in root.glob(".*-step_*"):
        shutil.rmtree(abandoned)
