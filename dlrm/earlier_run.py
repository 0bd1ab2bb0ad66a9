"""The run that a job goes on with when it is started again."""

from __future__ import annotations

import json
from pathlib import Path

from dlrm.config.compose import CONFIG_FILE, save_config
from dlrm.config.differences import RESUMABLE, differing_settings
from dlrm.config.errors import RunError
from dlrm.config.root import Config
from dlrm.distributed.restart import is_restart, launch_id
from dlrm.run import MANIFEST_FILE, Run, locked, open_run


def earlier_run(config: Config) -> Run | None:
    """Return the run that this job has begun before; None where it begins one.

    That is the one called ``run_name`` where ``resume`` is set, or the one that this
    torchrun's processes began before they were started again. It keeps its settings
    but those that may change, which are ``config``'s.

    Raises:
        RunError: It was begun with other settings.
    """
    folder: Path | None = None
    if config.resume and config.run_name is not None:
        folder = Path(config.output) / config.run_name
    elif is_restart():
        folder = _begun_by(launch_id(), Path(config.output))
    if folder is None or not folder.exists():
        return None
    run = open_run(folder)
    differing = differing_settings(run.config, config)
    if differing:
        raise RunError(
            f"A run that exists keeps its settings but {', '.join(RESUMABLE)}. "
            f"{folder} was begun with another {differing[0]}. Change it back, or give "
            f"the new run another run_name."
        )
    return Run(run.folder, config, run.schema)


def keep_settings(run: Run) -> None:
    """Write a run's new settings, unless another process trains it by the old ones.

    Raises:
        RunError: Another process holds the run.
    """
    with locked(run):
        save_config(run.config, run.folder / CONFIG_FILE)


def _begun_by(launch: str | None, output: Path) -> Path | None:
    manifests = output.glob(f"*/{MANIFEST_FILE}")
    for path in sorted(manifests, key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            if launch is not None and json.loads(path.read_text())["launch"] == launch:
                return path.parent
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
