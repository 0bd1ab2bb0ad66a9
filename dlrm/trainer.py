"""The step loop: one run trained from its dataset, resumable at any step to the bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import torch

from dlrm.checkpoint import (
    list_checkpoints,
    mark_best,
    remove_old_checkpoints,
)
from dlrm.config.errors import ConfigError, RunError
from dlrm.config.labels import LabelKind
from dlrm.config.progress import Progress
from dlrm.config.task import MONITORS, TaskName
from dlrm.config.trainer import Monitor
from dlrm.data.batch import Batch
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.storage.dataset import Dataset
from dlrm.distributed.device import choose_device
from dlrm.early_stopping import EarlyStopping
from dlrm.evaluation.judge import build_judge
from dlrm.interrupts import RunInterruptedError, StopSignals
from dlrm.learner import Learner
from dlrm.metric_log import METRICS_FILE, MetricLog, Record
from dlrm.optim.schedule import learning_rate_factor
from dlrm.row_names import raw_rows_named, watched
from dlrm.run import Run


@dataclass(slots=True)
class _Window:
    """Sums since the last log line."""

    loss_sum: float = 0.0
    weight_sum: float = 0.0
    examples: int = 0
    started: float = field(default_factory=time.monotonic)


class Trainer:
    """Trains one run on one process."""

    def __init__(
        self, run: Run, dataset: Dataset, *, report: Callable[[str], None]
    ) -> None:
        """Build model, optimizers and loaders; ``report`` takes lines for the user."""
        config = run.config.trainer
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        self.run, self.config, self.report = run, config, report
        self.optimizer = run.config.optimizer
        self.dataset = dataset
        self.device = choose_device(config.device)
        self.learner = Learner(run, self.device)
        self.monitor = run.config.monitor
        self.judge = build_judge(run.config.task, run.schema, run.folder)
        self.train_rows = self._loader("train", shuffle=True)
        self.valid_rows: BatchLoader | None = None
        if dataset.schema.num_rows("valid"):
            self.valid_rows = self._loader("valid", shuffle=False)
        self.steps_per_epoch = self.train_rows.steps_per_epoch
        self.num_steps = config.num_epochs * self.steps_per_epoch
        if config.max_steps is not None:
            self.num_steps = min(self.num_steps, config.max_steps)
        self.stopping = EarlyStopping(self.monitor, config.early_stopping_patience)
        self._check_validation()
        self.step = 0
        """Steps taken so far; with the schedule and row order functions of it alone."""
        self._window = _Window()
        self._begun = False

    def _check_validation(self) -> None:
        """Refuse now what the first evaluation, hours away perhaps, would refuse."""
        if self.valid_rows is None:
            if self.config.early_stopping_patience is not None:
                raise ConfigError(
                    "trainer.early_stopping_patience needs a validation split, but the "
                    "data has none. Leave it out, or give data.split_fractions a "
                    "second share."
                )
            return
        prior = self.dataset.schema.splits["valid"].prior
        monitor = self.monitor
        if self.run.schema.label_kind is not LabelKind.click:
            return
        if monitor in MONITORS[TaskName.retrieval]:
            if prior == 0.0:
                raise ConfigError(
                    f"trainer.monitor={monitor.value} needs a validation split with "
                    f"clicks, but none of its rows is one. Enlarge it "
                    f"(data.split_fractions)."
                )
            return
        if prior in (0.0, 1.0) and monitor is not Monitor.log_loss:
            raise ConfigError(
                f"trainer.monitor={monitor.value} needs a validation split with clicks "
                f"and other rows, but {prior:.0%} of its rows are clicks. Enlarge it "
                f"(data.split_fractions), or set trainer.monitor=log_loss."
            )

    def describe(self) -> str:
        """Return the lines printed before the first step."""
        tables = self.run.schema.tables
        rows = sum(users[0].num_embeddings for users in tables.values())
        dense = sum(parameter.numel() for parameter in self.learner.dense_parameters)
        splits = self.dataset.schema.splits
        sizes = ", ".join(f"{name} {s.num_rows:,}" for name, s in splits.items())
        threads = torch.get_num_threads()
        place = f"{self.device.type}, {threads} thread{'s' if threads > 1 else ''}"
        return (
            f"data    {self.dataset.folder} ({sizes} rows)\n"
            f"model   {self.run.config.model['name']}: {len(tables)} tables with "
            f"{rows:,} rows, {dense:,} dense parameters\n"
            f"train   {self.num_steps:,} steps of {self.config.global_batch_size:,} "
            f"examples on {place}; order: {self.train_rows.order.describe()}\n"
            f"log     {self.run.folder / METRICS_FILE}"
        )

    def fit(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises:
            TrainingError: The loss is not finite, or the monitored metric is undefined.
            RunInterruptedError: SIGINT or SIGTERM came; a checkpoint was written.
        """
        self.begin()
        log = self.open_log()
        try:
            with (
                StopSignals() as stop,
                self._progress() as progress,
            ):
                for record in self.steps(log):
                    progress.update(1, _shown(record))
                    if stop.received is not None and not self.finished:
                        self._save()
                        raise RunInterruptedError(stop.received.name)
        finally:
            log.close()
        if self.stopping.exhausted:
            self.report(
                f"Stopped early at step {self.step:,}: {self.monitor.value} has "
                f"not improved for {self.stopping.num_without_gain} evaluations."
            )

    def _progress(self) -> Progress:
        return Progress(self.num_steps, "train", "step", initial=self.step)

    def open_log(self) -> MetricLog:
        """Open the run's metric log, without what came after the current step."""
        return MetricLog(
            self.run.folder,
            logger=self.run.config.logger,
            config=self.run.manifest(),
            from_step=self.step,
        )

    def steps(self, log: MetricLog) -> Generator[Record | None, None, None]:
        """Take step after step to the end; yield each step's log record or None."""
        self._window = _Window()
        while not self.finished:
            epoch, start = divmod(self.step, self.steps_per_epoch)
            for batch in self.train_rows.batches(epoch, start):
                self._train_step(batch)
                yield self._after_step(log)
                if self.finished:
                    break

    @property
    def finished(self) -> bool:
        """Say whether no step is left to take."""
        return self.step >= self.num_steps or self.stopping.exhausted

    def begin(self) -> None:
        """Load the newest whole checkpoint, or what a new run starts from."""
        if self._begun:
            return
        self._begun = True
        if not self.resume() and self.learner.start(self.report):
            # As checkpoint 0, so that no later start reads an old run's rows again.
            self._save()

    def resume(self) -> bool:
        """Load the newest whole checkpoint; return whether there is one."""
        for folder in reversed(list_checkpoints(self.run.checkpoints)):
            try:
                state = self.learner.load(folder)
            except RunError as error:
                self.report(f"Skipped a checkpoint: {error}")
                continue
            self.step = state["step"]
            self.stopping.load_state(state["early_stopping"])
            self._mark_best()
            self.report(f"Going on from {folder} (step {self.step:,}).")
            return True
        return False

    def _train_step(self, batch: Batch) -> None:
        factor = self._rate_factor(self.step)
        with raw_rows_named(self.dataset, "train", batch):
            loss = self.learner.train_step(batch, step=self.step, rate_factor=factor)
        self.step += 1
        self._window.loss_sum += loss.loss_sum
        self._window.weight_sum += loss.weight_sum
        self._window.examples += len(batch)

    def _after_step(self, log: MetricLog) -> Record | None:
        """Log, evaluate and save where this step is due for it."""
        record = None
        if self._due(self.config.log_every):
            record = self._close_window()
            log.write(record)
        paused = time.monotonic()
        evaluate_every = self.config.evaluate_every or self.steps_per_epoch
        save_due = self._due(self.config.checkpoint_every or evaluate_every)
        best = False
        if self._due(evaluate_every) and self.valid_rows is not None:
            best = self._evaluate(self.valid_rows, log)
        if best or save_due or self.finished:
            self._save(best=best)
        # Examples per second are the step loop's: evaluating and saving do not count.
        self._window.started += time.monotonic() - paused
        return record

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.num_steps

    def _close_window(self) -> Record:
        window, self._window = self._window, _Window()
        seconds = max(self._window.started - window.started, 1e-9)
        factor = self._rate_factor(self.step - 1)
        return {
            "step": self.step,
            "epoch": self.step / self.steps_per_epoch,
            "examples": self._examples_seen(),
            "loss": window.loss_sum / max(window.weight_sum, 1e-12),
            "examples_per_second": window.examples / seconds,
            "lr_sparse": self.optimizer.sparse.lr * factor,
            "lr_dense": self.optimizer.dense.lr * factor,
        }

    def _examples_seen(self) -> int:
        epochs, steps = divmod(self.step, self.steps_per_epoch)
        num_rows = self.train_rows.order.num_rows
        return epochs * num_rows + min(steps * self.config.global_batch_size, num_rows)

    def _rate_factor(self, step: int) -> float:
        return learning_rate_factor(
            self.optimizer.schedule, step=step, num_steps=self.num_steps
        )

    def _evaluate(self, rows: BatchLoader, log: MetricLog) -> bool:
        """Evaluate on the validation split and say whether this was the best so far."""
        batches = watched(rows.batches(0), self.dataset, "valid")
        with self.learner.predicting(), batches:
            found = self.judge.collect(self.learner.model, batches, self.device)
        metrics = self.judge.metrics(found)
        best = self.stopping.update(metrics[self.monitor.value], step=self.step)
        record: Record = {"step": self.step, "split": "valid"}
        record |= {name: metrics[name] for name in self.judge.logged}
        log.write(record)
        shown = "  ".join(
            f"{name} {metrics[name]:.5f}"
            for name in self.judge.logged[:4]
            if metrics[name] is not None
        )
        self.report(f"step {self.step:>7,}  valid  {shown}{'  best' if best else ''}")
        return best

    def _save(self, *, best: bool = False) -> None:
        epoch, position = divmod(self.step, self.steps_per_epoch)
        self.learner.save(
            self.run.checkpoints,
            step=self.step,
            state={
                "epoch": epoch,
                "position": position,
                "order": self.train_rows.order.describe(),
                "random_state": "seeded from (trainer.seed, step) at every step",
                "early_stopping": self.stopping.state(),
                "finished": self.finished,
            },
        )
        if best:
            self._mark_best()
        remove_old_checkpoints(self.run.checkpoints, keep=self.config.keep_checkpoints)

    def _mark_best(self) -> None:
        """Record the best checkpoint; again on resume, as a crash may come between."""
        best = self.stopping
        if best.best_value is not None:
            mark_best(
                self.run.checkpoints,
                step=best.best_step,
                metric=self.monitor.value,
                value=best.best_value,
            )

    def _loader(self, split: str, *, shuffle: bool) -> BatchLoader:
        rows = self.dataset.split(split)
        order = RowOrder(
            rows.num_rows,
            seed=self.config.seed,
            shuffle=shuffle,
            max_rows_in_memory=self.config.shuffle_rows_in_memory,
        )
        return BatchLoader(
            rows,
            self.run.schema,
            order=order,
            global_batch_size=self.config.global_batch_size,
            prefetch_batches=self.config.prefetch_batches,
            pin_memory=self.device.type == "cuda",
        )


def _shown(record: Record | None) -> dict[str, object] | None:
    if record is None:
        return None
    speed = f"{record['examples_per_second']:,.0f}"
    return {"loss": f"{record['loss']:.4f}", "examples/s": speed}
