"""A model with all that trains it: optimizers, loss and, if asked for, an average.

Each of W processes backpropagates W * sum(w l) over its slice / sum(w) over the global
batch. The mean over processes, which tables and dense parameters are trained with, is
then the gradient of the global batch's mean loss, whatever the slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torchrec.distributed.model_parallel import (
    DefaultDataParallelWrapper,
    DistributedModelParallel,
)
from torchrec.distributed.types import ShardingEnv, ShardingPlan

from dlrm.averaging import WeightAverage
from dlrm.checkpoints.contents import contents_of
from dlrm.checkpoints.dense import Weights
from dlrm.checkpoints.load import load_checkpoint
from dlrm.checkpoints.save import save_contents
from dlrm.checkpoints.saver import Saver
from dlrm.compiling import compiled
from dlrm.config.errors import OtherRankError, TrainingError
from dlrm.data.batch import Batch
from dlrm.data.transforms.vocabulary import table_row_keys
from dlrm.diagnosis import describe_bad_loss
from dlrm.distributed.job import ALONE, Job
from dlrm.distributed.plan import Plan
from dlrm.distributed.watch import Phase
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.sharded.replica_groups import TableSync
from dlrm.embeddings.state import set_sparse_rate_factor
from dlrm.models import build_model, model_config
from dlrm.models.branches import Branches, objective
from dlrm.models.task import build_task
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from dlrm.optim.precision import lower_forward, products_in
from dlrm.pipeline import BatchPipeline
from dlrm.planning.fits import check_memory
from dlrm.planning.place import place_tables_of
from dlrm.run import Run
from dlrm.step_draws import seed_draws, step_seed
from dlrm.warm_start.start import start_values


class StepLoss(NamedTuple):
    """A step's loss, summed over the global batch's examples with their weights."""

    loss_sum: float
    weight_sum: float
    stop: bool = False
    """Whether any process was asked to stop."""


class Learner:
    """Takes steps on batches, and goes in and out of checkpoints whole.

    All processes of a job do so together, each with its slice of the global batch.
    """

    def __init__(
        self,
        run: Run,
        device: torch.device,
        job: Job = ALONE,
        *,
        average_lengths: Mapping[str, float] | None = None,
    ) -> None:
        """Build the model at its initial values, its optimizers and its loss.

        ``average_lengths``, the ids a row of multi-hot features, help to plan a job of
        several processes.
        """
        config, self._options = run.config.trainer, run.config.optimizer
        self._run, self._seed = run, config.seed
        self._precision = config.precision
        self.device, self.job = device, job
        self.model, self.plan = _initial_model(run, device, job, average_lengths)
        self.task = build_task(
            run.config.task,
            run.schema,
            run.folder,
            positive_weight=config.positive_weight,
        )
        self.dense_parameters = dense_parameters(self.model)
        self.dense_optimizer = build_dense_optimizer(
            self.dense_parameters, self._options.dense
        )
        self.sync = TableSync(self.model, job.group, run.config.sharding)
        """Must be asked to make the tables equal before they are judged or saved."""
        # Found once: a walk over all modules shows in a small model's step.
        branches = [m for m in self.model.modules() if isinstance(m, Branches)]
        self._branches = branches[0] if branches else nn.Module()
        self._rate_factor: float | None = None
        self.pipeline = BatchPipeline(self.model, device)
        self._network: Callable[..., Any] = _over_processes(self.model, device, job)
        if config.compile:
            self._network = compiled(
                self.model, device, job, cuda_graphs=config.cuda_graphs
            )
        self.saver = Saver()
        """Writes checkpoints beside training."""
        self.average: WeightAverage | None = None
        if config.average_decay is not None:
            self.average = WeightAverage(self.model, config.average_decay, job)

    def train_step(
        self, batch: Batch, *, step: int, rate_factor: float, stop: bool = False
    ) -> StepLoss:
        """Take step number ``step``, from 0, with both learning rates so scaled.

        ``stop`` says that this process was asked to stop; all learn of it.

        Raises:
            TrainingError: The loss is not finite; nothing has changed.
        """
        # Dropout's randomness is a function of (seed, step), so that a resumed run sees
        # what the undisturbed one saw and no generator state needs saving.
        seed_draws(step_seed(self._seed, step, rank=self.job.rank), self.device)
        self._set_rates(rate_factor)
        self.job.watch.enter(Phase.step, f"step {step + 1}")
        with products_in(self._precision, self.device):
            return self._step(batch, step, stop)

    def _set_rates(self, factor: float) -> None:
        for group in self.dense_optimizer.param_groups:
            group["lr"] = self._options.dense.lr * factor
        if factor != self._rate_factor:
            set_sparse_rate_factor(self.model, factor)
            self._rate_factor = factor

    def _step(self, batch: Batch, step: int, stop: bool) -> StepLoss:
        if self.device.type != "cpu":
            batch = batch.to(self.device, non_blocking=True)
        with lower_forward(self._precision, self.device):
            logits = self._network(batch)
            loss_sum, weight_sum = self.task.loss_sum(logits, batch)
        sums, total_weight = self._over_all(loss_sum, weight_sum, stop)
        if not math.isfinite(sums.loss_sum):
            self._refuse_loss(float(loss_sum.detach()), batch, logits, step)
        self.dense_optimizer.zero_grad(set_to_none=True)
        loss = objective(
            self._branches,
            loss_sum,
            total_weight,
            branch_loss_sum=lambda branch: self.task.loss_sum(branch, batch)[0],
            over_ranks=self.job.all_sum,
        )
        if self.job.group is not None:
            loss = loss * self.job.world_size
        loss.backward()
        clip = self._options.dense.clip_norm
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.dense_parameters, clip)
        self.dense_optimizer.step()
        self.sync.after_step(step + 1)
        if self.average is not None:
            self.average.update(step + 1)
        return sums

    def _over_all(
        self, loss_sum: torch.Tensor, weight_sum: torch.Tensor, stop: bool
    ) -> tuple[StepLoss, torch.Tensor]:
        """Return the sums over all processes, and that of the weights as a tensor."""
        if self.job.group is None:
            found = StepLoss(float(loss_sum.detach()), float(weight_sum), stop)
            return found, weight_sum
        # One exchange a step tells every process all that it must know of the others.
        asked = loss_sum.new_full((), float(stop), dtype=torch.float64)
        own = [loss_sum.detach().double(), weight_sum.double(), asked]
        self.job.watch.enter(Phase.step, "the loss of this step")
        total = self.job.all_sum(torch.stack(own))
        value, weight, stops = total.tolist()
        return StepLoss(value, weight, stops > 0), total[1].to(loss_sum.dtype)

    def predicting(self) -> AbstractContextManager[None]:
        """Let the model hold the weights that it is judged by."""
        return nullcontext() if self.average is None else self.average.in_use()

    def save(
        self,
        root: Path,
        *,
        step: int,
        state: dict[str, Any],
        then: Callable[[], None],
        beside: bool = False,
    ) -> None:
        """Write a checkpoint with all processes, after any that is being written.

        Args:
            root: The folder of checkpoints.
            step: Steps taken so far.
            state: JSON data kept in it.
            then: What is done once the checkpoint is there.
            beside: Write a copy while training goes on; for one process alone.

        Raises:
            WriteError: It cannot be written, or the one before it could not.
        """
        self.saver.wait()
        with self.predicting():
            contents = contents_of(
                self.model, self.dense_optimizer, self._training_weights(), self.job
            )
            if not beside:
                save_contents(root, step, contents, state, self.job)
                self.job.by_writer(then)
                return
            contents = contents.copied()

        def write() -> None:
            save_contents(root, step, contents, state, ALONE)
            then()

        self.saver.start(write)

    def _training_weights(self) -> Weights | None:
        return None if self.average is None else self.average.values

    def num_checkpoint_bytes(self) -> int:
        """Return the size of all that this process gives to a checkpoint."""
        weights = self._training_weights()
        return contents_of(self.model, self.dense_optimizer, weights, ALONE).num_bytes

    def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint and return its state.

        Raises:
            RunError: The checkpoint is damaged or is of another model.
        """
        state = load_checkpoint(
            folder,
            model=self.model,
            dense_optimizer=self.dense_optimizer,
            training=None if self.average is None else self.average.values,
            job=self.job,
        )
        if self.average is not None:
            self.average.exchange()
        return state

    def start(self, report: Callable[[str], None]) -> bool:
        """Take over what a new run starts from; return whether there was any.

        Raises:
            UserError: An earlier run or a file of vectors does not fit.
        """
        started = start_values(
            self._run, self.model, self.dense_optimizer, report=report, job=self.job
        )
        if started and self.average is not None:
            self.average.restart()
        return started

    def _refuse_loss(
        self, value: float, batch: Batch, logits: torch.Tensor, step: int
    ) -> None:
        if math.isfinite(value) and not self.job.is_writer:
            raise OtherRankError("The loss of another rank is not finite.")
        self.saver.settle()  # The last good checkpoint may just be written.
        raise TrainingError(
            describe_bad_loss(
                value,
                step=step + 1,
                model=self.model,
                batch=batch,
                logits=logits,
                checkpoints=self._run.checkpoints,
                optimizer=self._options,
            )
        )


def _initial_model(
    run: Run,
    device: torch.device,
    job: Job,
    average_lengths: Mapping[str, float] | None,
) -> tuple[nn.Module, Plan | None]:
    seed, schema, config = run.config.trainer.seed, run.schema, run.config
    torch.manual_seed(seed)
    options = model_config(config.model)
    model = build_model(options, schema)
    in_own_memory = job.group is None and config.sharding.storage is None
    if config.trainer.check_memory and in_own_memory:
        check_memory(
            model,
            optimizer=config.optimizer.sparse,
            averaged=config.trainer.average_decay is not None,
            device=device,
        )
    initial = InitialValues(
        seed=seed,
        default=options.embedding_init,
        row_keys=lambda table: table_row_keys(run.folder, schema, table),
    )
    plan = place_tables_of(
        model,
        job=job,
        device=device,
        optimizer=config.optimizer.sparse,
        sharding=config.sharding,
        hardware=config.hardware,
        global_batch_size=config.trainer.global_batch_size,
        initial=initial,
        schema=schema,
        dense_optimizer=config.optimizer.dense,
        average_lengths=average_lengths,
    )
    return model, plan


def _over_processes(model: nn.Module, device: torch.device, job: Job) -> nn.Module:
    """Let the dense gradients become their mean over the processes in backward."""
    if job.group is None:
        return model
    return DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(job.group),
        device=device,
        # The tables lie where they should; what is left is dense.
        plan=ShardingPlan(plan={}),
        sharders=[],
        init_parameters=False,
        # Every process has drawn the same values from the same seed; the tables' rows,
        # which are buffers here, must not be taken from the first process.
        data_parallel_wrapper=DefaultDataParallelWrapper(
            ddp_kwargs={"init_sync": False}
        ),
    )
