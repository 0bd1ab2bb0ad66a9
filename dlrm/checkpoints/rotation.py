"""Which checkpoints a run has, which is the best, and which are deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from dlrm.checkpoints.files import STATE_FILE
from dlrm.config.durable import write_whole, writing_to
from dlrm.config.errors import RunError
from dlrm.config.strangers import parse_json

BEST_FILE = "best.json"


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of a step's checkpoint."""
    return f"step_{step:09d}"


def list_checkpoints(root: Path) -> list[Path]:
    """Return the complete checkpoints under ``root``, oldest first."""
    found = [path for path in _named(root) if (path / STATE_FILE).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def list_without_state(root: Path) -> list[Path]:
    """Return the folders that are called checkpoints but lost their state."""
    return sorted(path for path in _named(root) if not (path / STATE_FILE).is_file())


def _named(root: Path) -> list[Path]:
    return [path for path in root.glob("step_*") if path.name[5:].isdecimal()]


def mark_best(root: Path, *, step: int, metric: str, value: float) -> None:
    """Record which checkpoint is the best; ``root/best.json`` is replaced whole."""
    content = {"checkpoint": checkpoint_name(step), "step": step, metric: value}
    write_whole(root / BEST_FILE, json.dumps(content) + "\n")


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
        marked = root / parse_json((root / BEST_FILE).read_text())["checkpoint"]
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
    with writing_to(folder):
        shutil.rmtree(folder.rename(folder.with_name(f".removing-{folder.name}")))


def set_damaged_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that it counts as none; return its new name.

    Left where it was, it would be the newest, and kept instead of those to come.
    """
    aside = folder.with_name(f"damaged_{folder.name}")
    with writing_to(folder):
        if aside.exists():
            shutil.rmtree(aside)
        return folder.rename(aside)


def remove_abandoned(root: Path) -> None:
    """Delete what killed processes left of checkpoints half written or removed."""
    for abandoned in root.glob(".*-step_*"):
        shutil.rmtree(abandoned)
