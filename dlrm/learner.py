"""A model with all that trains it: optimizers, loss and, if asked for, an average."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dlrm.averaging import WeightAverage
from dlrm.checkpoint import load_checkpoint, save_checkpoint
from dlrm.config.errors import TrainingError
from dlrm.data.batch import Batch
from dlrm.data.transforms.vocabulary import table_row_keys
from dlrm.diagnosis import describe_bad_loss
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import set_sparse_rate_factor, to_local
from dlrm.models import build_model, model_config
from dlrm.models.branches import objective
from dlrm.models.task import build_task
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from dlrm.run import Run
from dlrm.warm_start.start import start_values


class StepLoss(NamedTuple):
    """A step's loss, summed over its examples with their weights."""

    loss_sum: float
    weight_sum: float


class Learner:
    """Takes steps on batches, and goes in and out of checkpoints whole."""

    def __init__(self, run: Run, device: torch.device) -> None:
        """Build the model at its initial values, its optimizers and its loss."""
        config, self._options = run.config.trainer, run.config.optimizer
        self._run, self._seed = run, config.seed
        self.device = device
        self.model = _initial_model(run, device)
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
        self.average: WeightAverage | None = None
        if config.average_decay is not None:
            self.average = WeightAverage(self.model, config.average_decay)

    def train_step(self, batch: Batch, *, step: int, rate_factor: float) -> StepLoss:
        """Take step number ``step``, from 0, with both learning rates so scaled.

        Raises:
            TrainingError: The loss is not finite; nothing has changed.
        """
        # Dropout's randomness is a function of (seed, step), so that a resumed run sees
        # what the undisturbed one saw and no generator state needs saving.
        torch.manual_seed(step_seed(self._seed, step))
        for group in self.dense_optimizer.param_groups:
            group["lr"] = self._options.dense.lr * rate_factor
        set_sparse_rate_factor(self.model, rate_factor)

        batch = batch.to(self.device, non_blocking=True)
        logits = self.model(batch)
        loss_sum, weight_sum = self.task.loss_sum(logits, batch)
        value = float(loss_sum.detach())
        if not math.isfinite(value):
            self._refuse_loss(value, batch, logits, step)
        self.dense_optimizer.zero_grad(set_to_none=True)
        objective(
            self.model,
            loss_sum,
            weight_sum,
            branch_loss_sum=lambda branch: self.task.loss_sum(branch, batch)[0],
        ).backward()
        clip = self._options.dense.clip_norm
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.dense_parameters, clip)
        self.dense_optimizer.step()
        if self.average is not None:
            self.average.update(step + 1)
        return StepLoss(value, float(weight_sum))

    def predicting(self) -> AbstractContextManager[None]:
        """Let the model hold the weights that it is judged by."""
        return nullcontext() if self.average is None else self.average.in_use()

    def save(self, root: Path, *, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint; ``state`` is JSON data kept in it."""
        with self.predicting():
            save_checkpoint(
                root,
                step=step,
                model=self.model,
                dense_optimizer=self.dense_optimizer,
                state=state,
                training=None if self.average is None else self.average.values,
            )

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
            self._run, self.model, self.dense_optimizer, report=report
        )
        if started and self.average is not None:
            self.average.restart()
        return started

    def _refuse_loss(
        self, value: float, batch: Batch, logits: torch.Tensor, step: int
    ) -> None:
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


def step_seed(seed: int, step: int) -> int:
    """Return the 63-bit seed of one step's randomness (splitmix64's finaliser)."""
    mask = 2**64 - 1
    value = (seed * 0x9E3779B97F4A7C15 + step + 1) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


def _initial_model(run: Run, device: torch.device) -> nn.Module:
    seed, schema = run.config.trainer.seed, run.schema
    torch.manual_seed(seed)
    config = model_config(run.config.model)
    model = build_model(config, schema)
    initial = InitialValues(
        seed=seed,
        default=config.embedding_init,
        row_keys=lambda table: table_row_keys(run.folder, schema, table),
    )
    sparse = run.config.optimizer.sparse
    to_local(model, optimizer=sparse, device=device, initial=initial)
    return model.to(device)
