"""The step loop: one run trained from its dataset, resumable at any step to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import torch

from dlrm.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    mark_best,
    remove_old_checkpoints,
    save_checkpoint,
)
from dlrm.config.errors import ConfigError, RunError, TrainingError
from dlrm.config.progress import Progress
from dlrm.config.trainer import Monitor
from dlrm.data.batch import Batch
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.vocabulary import table_row_keys
from dlrm.diagnosis import describe_bad_loss
from dlrm.distributed.device import choose_device
from dlrm.early_stopping import EarlyStopping
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import set_sparse_learning_rate, to_local
from dlrm.evaluation.predictions import collect_predictions
from dlrm.interrupts import RunInterruptedError, StopSignals
from dlrm.metric_log import METRICS_FILE, MetricLog, Record
from dlrm.metrics.summary import compute_metrics
from dlrm.models import build_model, model_config
from dlrm.models.task import ClickTask
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from dlrm.optim.schedule import learning_rate_factor
from dlrm.run import Run

_LOGGED_METRICS = ("auc", "log_loss", "normalized_entropy", "calibration", "pr_auc")


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
        self.model = self._build_model()
        self.task = ClickTask(positive_weight=config.positive_weight)
        self.dense_parameters = dense_parameters(self.model)
        self.dense_optimizer = build_dense_optimizer(
            self.dense_parameters, self.optimizer.dense
        )
        self.train_rows = self._loader("train", shuffle=True)
        self.valid_rows: BatchLoader | None = None
        if dataset.schema.num_rows("valid"):
            self.valid_rows = self._loader("valid", shuffle=False)
        self.steps_per_epoch = self.train_rows.steps_per_epoch
        self.num_steps = config.num_epochs * self.steps_per_epoch
        if config.max_steps is not None:
            self.num_steps = min(self.num_steps, config.max_steps)
        self.stopping = EarlyStopping(config.monitor, config.early_stopping_patience)
        self._check_validation()
        self.step = 0
        """Steps taken so far; with the schedule and row order functions of it alone."""
        self._window = _Window()

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
        monitor = self.config.monitor
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
        dense = sum(parameter.numel() for parameter in self.dense_parameters)
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
        self.resume()
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
                f"Stopped early at step {self.step:,}: {self.config.monitor.value} has "
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

    def resume(self) -> None:
        """Load the newest whole checkpoint, where there is one."""
        for folder in reversed(list_checkpoints(self.run.checkpoints)):
            try:
                state = load_checkpoint(
                    folder, model=self.model, dense_optimizer=self.dense_optimizer
                )
            except RunError as error:
                self.report(f"Skipped a checkpoint: {error}")
                continue
            self.step = state["step"]
            self.stopping.load_state(state["early_stopping"])
            self._mark_best()
            self.report(f"Going on from {folder} (step {self.step:,}).")
            return

    def _train_step(self, batch: Batch) -> None:
        # Dropout's randomness is a function of (seed, step), so that a resumed run sees
        # what the undisturbed one saw and no generator state needs saving.
        torch.manual_seed(step_seed(self.config.seed, self.step))
        factor = self._rate_factor(self.step)
        for group in self.dense_optimizer.param_groups:
            group["lr"] = self.optimizer.dense.lr * factor
        set_sparse_learning_rate(self.model, self.optimizer.sparse.lr * factor)

        batch = batch.to(self.device, non_blocking=True)
        logits = self.model(batch)
        loss_sum, weight_sum = self.task.loss_sum(logits, batch.labels, batch.weights)
        value = float(loss_sum.detach())
        if not math.isfinite(value):
            self._refuse_loss(value, batch, logits)
        self.dense_optimizer.zero_grad(set_to_none=True)
        (loss_sum / weight_sum.clamp(min=1e-12)).backward()
        clip = self.optimizer.dense.clip_norm
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.dense_parameters, clip)
        self.dense_optimizer.step()
        self.step += 1
        self._window.loss_sum += value
        self._window.weight_sum += float(weight_sum)
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
        batches = rows.batches(0)
        found = collect_predictions(self.model, batches, self.device)
        metrics = compute_metrics(found.labels, found.logits, found.weights)
        best = self.stopping.update(metrics[self.config.monitor.value], step=self.step)
        record: Record = {"step": self.step, "split": "valid"}
        record |= {name: metrics[name] for name in _LOGGED_METRICS}
        log.write(record)
        shown = "  ".join(
            f"{name} {metrics[name]:.5f}"
            for name in _LOGGED_METRICS[:4]
            if metrics[name] is not None
        )
        self.report(f"step {self.step:>7,}  valid  {shown}{'  best' if best else ''}")
        return best

    def _save(self, *, best: bool = False) -> None:
        epoch, position = divmod(self.step, self.steps_per_epoch)
        save_checkpoint(
            self.run.checkpoints,
            step=self.step,
            model=self.model,
            dense_optimizer=self.dense_optimizer,
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
                metric=self.config.monitor.value,
                value=best.best_value,
            )

    def _refuse_loss(self, value: float, batch: Batch, logits: torch.Tensor) -> None:
        raise TrainingError(
            describe_bad_loss(
                value,
                step=self.step + 1,
                model=self.model,
                batch=batch,
                logits=logits,
                checkpoints=self.run.checkpoints,
                optimizer=self.optimizer,
            )
        )

    def _build_model(self) -> torch.nn.Module:
        torch.manual_seed(self.config.seed)
        config, schema = model_config(self.run.config.model), self.run.schema
        model = build_model(config, schema)
        initial = InitialValues(
            seed=self.config.seed,
            init=lambda table: schema.options(table).init or config.embedding_init,
            row_keys=lambda table: table_row_keys(self.run.folder, schema, table),
        )
        to_local(
            model,
            optimizer=self.optimizer.sparse,
            device=self.device,
            initial=initial,
        )
        return model.to(self.device)

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


def step_seed(seed: int, step: int) -> int:
    """Return the 63-bit seed of one step's randomness (splitmix64's finaliser)."""
    mask = 2**64 - 1
    value = (seed * 0x9E3779B97F4A7C15 + step + 1) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


def _shown(record: Record | None) -> dict[str, object] | None:
    if record is None:
        return None
    speed = f"{record['examples_per_second']:,.0f}"
    return {"loss": f"{record['loss']:.4f}", "examples/s": speed}
