"""The real training loop as a contestant, started as ``dlrm`` itself is.

It reads a prepared dataset from disk, with shuffling, metrics, logging and checkpoints
as configured.
"""

from __future__ import annotations

import resource
from collections.abc import Generator
from typing import Any

import torch

from dlrm.bench.case import BenchCase
from dlrm.bench.protocol import serve
from dlrm.bench.split import split_of_steps
from dlrm.bench.traffic import traffic_of
from dlrm.data.storage.dataset import Dataset
from dlrm.layers.dot_interaction import DotInteraction
from dlrm.metric_log import Record
from dlrm.models import model_config
from dlrm.run import create_run
from dlrm.trainer import Trainer

_SPLIT_STEPS = 30
"""Steps of the pass that is taken apart, at most those of two turns."""


class OurLoop:
    """A trainer that takes its steps a turn at a time."""

    def __init__(self, case: BenchCase) -> None:
        """Build everything that ``dlrm train`` builds."""
        dataset = Dataset.open(case.dataset, verify=False)
        run = create_run(case.config, dataset=case.dataset, code=[])
        self.case, self.num_steps = case, case.num_steps
        self.trainer = Trainer(run, dataset, report=_unheard)
        self.trainer.begin()
        self._log = self.trainer.open_log()
        self._steps = self.trainer.steps(self._log)
        self._num_turns = 0

    def turn(self) -> int:
        """Take one turn's steps; return their examples."""
        before = self._examples()
        self._advance(self.num_steps)
        self._num_turns += 1
        return self._examples() - before

    def facts(self, _: Any) -> dict[str, Any]:
        """Return what was on, and the memory that it took."""
        trainer = self.trainer
        tables = trainer.run.schema.tables
        config = trainer.config
        evaluate_every = config.evaluate_every or trainer.steps_per_epoch
        cuda = trainer.device.type == "cuda"
        return {
            "device": trainer.device.type,
            "gpu": torch.cuda.get_device_name(trainer.device) if cuda else None,
            "threads": torch.get_num_threads(),
            "precision": config.precision.value,
            "batch": config.global_batch_size,
            "num_tables": len(tables),
            "table_rows": sum(u[0].num_embeddings for u in tables.values()),
            "dense_parameters": sum(
                parameter.numel() for parameter in trainer.learner.dense_parameters
            ),
            "shuffle": trainer.train_rows.order.describe(),
            "log_every": config.log_every,
            "tensorboard": trainer.run.config.logger.tensorboard,
            "checkpoint_every": config.checkpoint_every or evaluate_every,
            "steps_taken": trainer.step,
            "table_bytes": _table_bytes(trainer),
            "peak_rss_bytes": peak_rss(),
            "peak_cuda_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        }

    def split(self, _: Any) -> dict[str, Any]:
        """Take further steps apart; see ``split_of_steps``."""
        steps = max(4, min(_SPLIT_STEPS, 2 * self.num_steps))
        self._steps.close()
        found = split_of_steps(self.trainer, self._fresh_steps, num_steps=steps)
        self._fresh_steps()
        return found

    def dot(self, _: Any) -> dict[str, float] | None:
        """Return operations and bytes of the dot interaction; None without one.

        Forward one batched product, backward one more: the gradient is that of a
        symmetric matrix.
        """
        modules = self.trainer.learner.model.modules()
        layer = next((m for m in modules if isinstance(m, DotInteraction)), None)
        if layer is None:
            return None
        width = model_config(self.trainer.run.config.model).embedding_dim
        batch = self.trainer.config.global_batch_size
        vectors = layer.num_vectors * width
        return {
            "flops": 4.0 * batch * layer.num_vectors * vectors,
            "bytes": 4.0 * batch * (3 * vectors + 2 * layer.output_dim),
        }

    def traffic(self, _: Any) -> dict[str, Any]:
        """Return the rows that a step reads and changes; see ``traffic_of``."""
        return traffic_of(self.trainer.train_rows, self.trainer.run.schema)

    def close(self) -> None:
        """Let go of the log and of the thread that makes batches."""
        self._steps.close()
        self._log.close()

    def _fresh_steps(self) -> Generator[Record | None, None, None]:
        self._steps.close()
        self._steps = self.trainer.steps(self._log)
        return self._steps

    def _advance(self, num_steps: int) -> None:
        for _ in range(num_steps):
            next(self._steps)
        # What is written beside training must not fall into another's turn.
        self.trainer.learner.saver.settle()
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()

    def _examples(self) -> int:
        epochs, steps = divmod(self.trainer.step, self.trainer.steps_per_epoch)
        num_rows = self.trainer.train_rows.order.num_rows
        done = steps * self.trainer.config.global_batch_size
        return epochs * num_rows + min(done, num_rows)


def serve_our_loop(case: BenchCase) -> None:
    """Train a turn at a time until stdin ends."""
    loop = OurLoop(case)
    serve(
        loop.turn,
        {
            "facts": loop.facts,
            "split": loop.split,
            "traffic": loop.traffic,
            "dot": loop.dot,
        },
    )
    loop.close()


def peak_rss() -> int:
    """Return the most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _table_bytes(trainer: Trainer) -> int:
    """Return the bytes of all tables' rows in float32."""
    return sum(
        4 * users[0].num_embeddings * (users[0].feature.embedding_dim or 0)
        for users in trainer.run.schema.tables.values()
    )


def _unheard(_: str) -> None:
    """Drop a line."""
