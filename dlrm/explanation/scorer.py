"""A run's model as a function from encoded rows to logits. Shape suffix: R = rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.task import TaskName
from dlrm.data.loading.whole_batches import WholeBatches
from dlrm.data.storage.rows import EncodedRows
from dlrm.distributed.device import choose_device
from dlrm.evaluation.predictions import collect_predictions
from dlrm.run import Run, load_model

_BATCH_SIZE = 8192


class Scorer:
    """The model of one checkpoint, in evaluation mode."""

    def __init__(
        self, model: nn.Module, batches: WholeBatches, device: torch.device
    ) -> None:
        """Take a model that gives one logit a row."""
        self._model, self._batches, self._device = model, batches, device

    @classmethod
    def load(cls, run: Run, checkpoint: Path) -> Scorer:
        """Load a checkpoint.

        Raises:
            ConfigError: The run's task is not clicks.
            RunError: The checkpoint is damaged.
        """
        check_clicks(run)
        config = run.config.trainer
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        device = choose_device(config.device)
        model = load_model(run, checkpoint=checkpoint, device=device)
        return cls(model, WholeBatches(run.schema, batch_size=_BATCH_SIZE), device)

    def logits(self, rows: EncodedRows) -> np.ndarray:
        """Return the rows' logits, float32 [R], in order."""
        batches = self._batches.of_rows(rows)
        return collect_predictions(self._model, batches, self._device).logits


def check_clicks(run: Run) -> None:
    """Refuse a run that does not predict clicks.

    Raises:
        ConfigError: It is of another task.
    """
    task = run.config.task.resolved(run.schema.label_kind)
    if task is not TaskName.click:
        raise ConfigError(
            f"what=importance and what=row explain the one logit of a model of clicks, "
            f"but the run's task.name is {task.value}. what=embeddings is for any run."
        )
