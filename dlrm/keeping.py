"""A run's checkpoints as training needs them: the newest ones, and the best.

Written between steps or, where memory has room for a copy, beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dlrm.checkpoints.files import STATE_FILE, damaged
from dlrm.checkpoints.rotation import (
    list_checkpoints,
    list_without_state,
    mark_best,
    remove_abandoned,
    remove_old_checkpoints,
    set_damaged_aside,
)
from dlrm.config.byte_size import shown_bytes
from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import DamagedError
from dlrm.config.memory import free_memory
from dlrm.distributed.job import Job
from dlrm.distributed.watch import Phase
from dlrm.early_stopping import EarlyStopping
from dlrm.learner import Learner
from dlrm.metric_log import METRICS_FILE
from dlrm.run import Run

_SHARE_FOR_A_COPY = 0.9
"""Of the free memory; the rest is left to the batches to come."""


class Keeper:
    """Takes a learner in and out of the checkpoints of its run."""

    def __init__(
        self, run: Run, learner: Learner, job: Job, report: Callable[[str], None]
    ) -> None:
        """Write nothing yet; ``report`` takes lines for the user."""
        self._run, self._learner, self._job = run, learner, job
        self._root, self._config = run.checkpoints, run.config.trainer
        self._report = report
        self._beside = self._config.async_checkpoints and job.group is None

    def describe(self) -> str:
        """Return what saving takes, as a line; nothing where it takes no memory."""
        if not self._beside:
            return ""
        size = shown_bytes(self._learner.num_checkpoint_bytes())
        return f"save    beside training, each from a copy of {size} in memory\n"

    def load_newest(self) -> dict[str, Any] | None:
        """Load the newest whole checkpoint and return its state; None without one.

        Damaged ones are named and set aside: left where they are, they would be kept
        as the newest instead of those to come.
        """
        # Listed once: a shared folder may look different from another machine.
        for folder in reversed(self._job.by_writer(self._listed)):
            self._job.watch.enter(Phase.save, f"loading {folder.name}")
            try:
                state = self._learner.load(folder)
            except DamagedError as error:
                self._job.by_writer(partial(self._skip, folder, error))
                continue
            self._report(f"Going on from {folder} (step {state['step']:,}).")
            return state
        return None

    def save(
        self,
        step: int,
        state: dict[str, Any],
        stopping: EarlyStopping,
        *,
        best: bool,
        beside: bool,
    ) -> None:
        """Write a checkpoint now or, where ``beside`` and there is room, in a thread.

        ``best`` says that it is the best one so far, which ``stopping`` knows more of.

        Raises:
            WriteError: It cannot be written, or the one before it could not.
        """
        self._job.by_writer(self._flush_log)
        self._learner.save(
            self._root,
            step=step,
            state={**state, "early_stopping": stopping.state()},
            then=partial(self.rotate, replace(stopping) if best else None),
            beside=beside and self._has_room(),
        )

    def rotate(self, best: EarlyStopping | None) -> None:
        """Mark the best checkpoint, if it is given, and delete what is not to be kept.

        Done after each save by the first process; again on resume, as a crash may come
        between.
        """
        if best is not None and best.best_value is not None:
            mark_best(
                self._root,
                step=best.best_step,
                metric=best.monitor.value,
                value=best.best_value,
            )
        remove_old_checkpoints(self._root, keep=self._config.keep_checkpoints)

    def _listed(self) -> list[Path]:
        # A run whose last save was killed may have none left to clean up after it.
        remove_abandoned(self._root)
        for folder in list_without_state(self._root):
            self._skip(folder, damaged(folder, STATE_FILE))
        return list_checkpoints(self._root)

    def _skip(self, folder: Path, error: DamagedError) -> None:
        aside = set_damaged_aside(folder)
        self._report(f"Skipped a checkpoint, now {aside.name}: {error}")

    def _flush_log(self) -> None:
        """Let what the log says of the steps survive what the checkpoint does."""
        log = self._run.folder / METRICS_FILE
        if log.exists():
            flush_to_disk(log)

    def _has_room(self) -> bool:
        """Say whether a checkpoint's copy fits the memory; where not, say so once."""
        if not self._beside:
            return False
        needed, free = self._learner.num_checkpoint_bytes(), free_memory()
        if needed > _SHARE_FOR_A_COPY * free:
            self._beside = False
            self._report(
                f"save    between steps from now on: a copy of {shown_bytes(needed)} "
                f"would not fit the {shown_bytes(free)} of memory that are free"
            )
        return self._beside
