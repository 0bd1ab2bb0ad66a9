"""The step loop: one run trained from its dataset, resumable at any step to the bit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch

from dlrm.config.labels import LabelKind
from dlrm.config.progress import Progress
from dlrm.data.batch import Batch
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.preparation.expected import mean_bag_lengths
from dlrm.data.storage.dataset import Dataset
from dlrm.distributed.device import choose_device
from dlrm.distributed.job import ALONE, Job
from dlrm.distributed.watch import Phase
from dlrm.early_stopping import EarlyStopping
from dlrm.evaluation.gathering import collect_over_ranks
from dlrm.evaluation.judge import Found, build_judge
from dlrm.evaluation.true_rate import split_to_true_rate
from dlrm.interrupts import RunInterruptedError, StopSignals
from dlrm.keeping import Keeper
from dlrm.kernels.freed_memory import keep_freed_memory
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
    """Trains one run, with all processes of its job.

    Each takes its slice of every batch; the first one alone writes and prints.
    """

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        *,
        report: Callable[[str], None],
        job: Job = ALONE,
    ) -> None:
        """Build model, optimizers and loaders; ``report`` takes lines for the user."""
        config = run.config.trainer
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        self.run, self.config, self.job = run, config, job
        self.report = report if job.is_writer else _unheard
        self.optimizer = run.config.optimizer
        self.dataset = dataset
        self.device = choose_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        lengths = None if job.group is None else mean_bag_lengths(dataset)
        self.learner = Learner(run, self.device, job, average_lengths=lengths)
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
        prior = dataset.schema.splits["valid"].prior if self.valid_rows else None
        clicks = run.schema.label_kind is LabelKind.click
        self.stopping.check_validation(prior, clicks=clicks)
        self.step = 0
        """Steps taken so far; with the schedule and row order functions of it alone."""
        self._window = _Window()
        self._begun = False
        self._stop = False
        """Whether any process was asked to stop, as of the last step."""
        self._signals: StopSignals | None = None
        self.keeper = Keeper(run, self.learner, job, lambda line: self.report(line))

    def describe(self) -> str:
        """Return the lines printed before the first step."""
        tables = self.run.schema.tables
        rows = sum(users[0].num_embeddings for users in tables.values())
        dense = sum(parameter.numel() for parameter in self.learner.dense_parameters)
        splits = self.dataset.schema.splits
        sizes = ", ".join(f"{name} {s.num_rows:,}" for name, s in splits.items())
        threads = torch.get_num_threads()
        place = f"{self.device.type}, {threads} thread{'s' if threads > 1 else ''}"
        if self.job.world_size > 1:
            place = f"{self.job.world_size} processes, each on {place}"
        return (
            f"data    {self.dataset.folder} ({sizes} rows)\n"
            f"model   {self.run.config.model['name']}: {len(tables)} tables with "
            f"{rows:,} rows, {dense:,} dense parameters\n"
            f"{self._placement()}"
            f"train   {self.num_steps:,} steps of {self.config.global_batch_size:,} "
            f"examples on {place}; order: {self.train_rows.order.describe()}\n"
            f"{self.keeper.describe()}"
            f"log     {self.run.folder / METRICS_FILE}"
        )

    def _placement(self) -> str:
        """Return how many tables lie how, as a line; nothing for one process."""
        if self.learner.plan is None:
            return ""
        counts = Counter(t.strategy.value for t in self.learner.plan.tables.values())
        shown = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return f"tables  {shown}\n"

    def fit(self) -> None:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises:
            TrainingError: The loss is not finite, or the monitored metric is undefined.
            RunInterruptedError: SIGINT, SIGTERM or SIGHUP came; a checkpoint was
                written.
            WriteError: A checkpoint could not be written.
        """
        self.begin()
        log = self.open_log()
        try:
            with (
                StopSignals(silent=not self.job.is_writer) as stop,
                self._progress() as progress,
            ):
                self._signals = stop
                for record in self.steps(log):
                    alone = self.job.group is None
                    stopped = stop.received is not None if alone else self._stop
                    if stopped and not self.finished:
                        self._save()
                        name = stop.received.name if stop.received else "another rank"
                        raise RunInterruptedError(name)
                    # After the checkpoint: a terminal that is gone takes no line.
                    progress.update(1, _shown(record))
                self.learner.saver.wait()
        except Exception:
            self.learner.saver.settle()
            raise
        finally:
            log.close()
        if self.stopping.exhausted:
            self.report(
                f"Stopped early at step {self.step:,}: {self.monitor.value} has "
                f"not improved for {self.stopping.num_without_gain} evaluations."
            )

    def _progress(self) -> Progress:
        return Progress(
            self.num_steps,
            "train",
            "step",
            initial=self.step,
            silent=not self.job.is_writer,
        )

    def open_log(self) -> MetricLog:
        """Open the run's metric log, without what came after the current step."""
        return MetricLog(
            self.run.folder,
            logger=self.run.config.logger,
            config=self.run.manifest(),
            from_step=self.step,
            silent=not self.job.is_writer,
        )

    def steps(self, log: MetricLog) -> Generator[Record | None, None, None]:
        """Take step after step to the end; yield each step's log record or None."""
        self._window = _Window()
        while not self.finished:
            for batch in self._batches():
                self._train_step(batch)
                yield self._after_step(log)
                if self.finished:
                    break
                self.job.watch.enter(Phase.data, "the wait for the next batch")

    def _batches(self) -> Iterator[Batch]:
        """Yield the rest of the current step's epoch."""
        epoch, start = divmod(self.step, self.steps_per_epoch)
        self.job.watch.enter(Phase.data, "the wait for the first batch")
        return self.learner.pipeline.batches(
            self.train_rows.batches(epoch, start),
            errors_of=lambda batch: raw_rows_named(self.dataset, "train", batch),
        )

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
        state = self.keeper.load_newest()
        if state is None:
            return False
        self.step = state["step"]
        self.stopping.load_state(state["early_stopping"])
        self.job.by_writer(lambda: self.keeper.rotate(self.stopping))
        return True

    def _train_step(self, batch: Batch) -> None:
        factor = self._rate_factor(self.step)
        signals = self._signals
        asked = signals is not None and signals.received is not None
        with raw_rows_named(self.dataset, "train", batch):
            loss = self.learner.train_step(
                batch, step=self.step, rate_factor=factor, stop=asked
            )
        position = self.step % self.steps_per_epoch
        self.step += 1
        self._stop = loss.stop
        self._window.loss_sum += loss.loss_sum
        self._window.weight_sum += loss.weight_sum
        self._window.examples += self._examples_until(position + 1)
        self._window.examples -= self._examples_until(position)

    def _after_step(self, log: MetricLog) -> Record | None:
        """Log, evaluate and save where this step is due for it."""
        self.learner.saver.check()
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
            self._save(best=best, beside=not self.finished)
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
        return epochs * num_rows + self._examples_until(steps)

    def _examples_until(self, position: int) -> int:
        """Return the examples of an epoch's first ``position`` global batches."""
        num_rows = self.train_rows.order.num_rows
        return min(position * self.config.global_batch_size, num_rows)

    def _rate_factor(self, step: int) -> float:
        return learning_rate_factor(
            self.optimizer.schedule, step=step, num_steps=self.num_steps
        )

    def _evaluate(self, rows: BatchLoader, log: MetricLog) -> bool:
        """Evaluate on the validation split and say whether this was the best so far."""
        batches = watched(rows.batches(0), self.dataset, "valid")
        self.learner.sync.now()
        with self.learner.predicting(), batches:
            found = collect_over_ranks(
                self.judge, self.learner.model, batches, self.device, self.job
            )
        self.job.watch.enter(Phase.metrics, "the metrics of valid")
        # Computed once: what follows must be the same everywhere.
        metrics = self.job.by_writer(lambda: self.judge.metrics(self._true(found)))
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

    def _true(self, found: Found) -> Found:
        """Return validation rows at the rate of the whole log, if that was thinned."""
        data = self.run.config.data
        return split_to_true_rate(found, data, self.dataset, "valid")

    def _save(self, *, best: bool = False, beside: bool = False) -> None:
        """Write a checkpoint now or, where ``beside``, while training goes on."""
        epoch, position = divmod(self.step, self.steps_per_epoch)
        self.job.watch.enter(Phase.save, f"saving step {self.step}")
        self.learner.sync.now()
        self.keeper.save(
            self.step,
            {
                "epoch": epoch,
                "position": position,
                "order": self.train_rows.order.describe(),
                "random_state": "seeded from (trainer.seed, step) at every step",
                "finished": self.finished,
            },
            self.stopping,
            best=best,
            beside=beside,
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
            rank=self.job.rank,
            world_size=self.job.world_size,
            prefetch_batches=self.config.prefetch_batches,
            pin_memory=self.device.type == "cuda",
        )


def _unheard(line: str) -> None:
    """Drop a line: the first process prints it."""


def _shown(record: Record | None) -> dict[str, object] | None:
    if record is None:
        return None
    speed = f"{record['examples_per_second']:,.0f}"
    return {"loss": f"{record['loss']:.4f}", "examples/s": speed}
