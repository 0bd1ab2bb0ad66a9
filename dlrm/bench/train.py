"""The real training loop, from a dataset on disk, beside a bare loop in memory."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from dlrm.bench.bare_loop import BareLoop, bare_batch
from dlrm.bench.pairs import interleave, speed_ratio
from dlrm.bench.workload import workload_data, workload_dataset
from dlrm.config.errors import ConfigError
from dlrm.config.root import Config
from dlrm.data.storage.dataset import Dataset
from dlrm.models import model_config
from dlrm.models.dlrm import DLRMConfig, Interaction
from dlrm.run import create_run
from dlrm.trainer import Trainer

_BATCHES_IN_MEMORY = 50
_STEPS_PER_ROUND = 30
_EPOCHS = 1_000_000  # The rounds end the loop, not the data.


def bench_training(
    config: Config, *, num_rounds: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """Measure both loops in interleaved rounds and return figures for the table.

    The yardstick runs twice a round, so that its ratio to itself shows the noise.

    Raises:
        ConfigError: There is no workload, or the model is not DLRM with the dot.
    """
    if config.workload is None:
        raise ConfigError("dlrm bench train needs workload=w1 or workload=w2.")
    model = model_config(config.model)
    if not isinstance(model, DLRMConfig) or model.interaction is not Interaction.dot:
        raise ConfigError(
            "The bare loop is a DLRM with the dot interaction, but model is "
            f"{config.model}. Set model=dlrm model.interaction=dot."
        )
    prepared = config.data.prepared
    folder = workload_dataset(config.workload, prepared=prepared)
    with tempfile.TemporaryDirectory() as output:
        trainer = _trainer(config, Dataset.open(folder), output=output, report=report)
        bare = _bare_loop(config, model, trainer)
        log = trainer.open_log()
        steps = trainer.steps(log)
        seconds = interleave(
            {
                "dlrm": lambda: _advance(steps),
                "bare": lambda: bare.run(_STEPS_PER_ROUND),
                "bare again": lambda: bare.run(_STEPS_PER_ROUND),
            },
            num_rounds=num_rounds,
        )
        steps.close()
        log.close()
    examples = _STEPS_PER_ROUND * config.trainer.global_batch_size
    return {
        "workload": config.workload.name,
        "optimizer": config.optimizer.sparse.name.value,
        "rounds": num_rounds,
        "threads": torch.get_num_threads(),
        "examples_per_second": {
            name: examples / float(np.median(values))
            for name, values in seconds.items()
        },
        "dlrm_to_bare": dataclasses.asdict(
            speed_ratio(seconds["dlrm"], seconds["bare"])
        ),
        "bare_to_itself": dataclasses.asdict(
            speed_ratio(seconds["bare again"], seconds["bare"])
        ),
    }


def _trainer(
    config: Config, dataset: Dataset, *, output: str, report: Callable[[str], None]
) -> Trainer:
    assert config.workload is not None
    data = workload_data(config.workload, prepared=config.data.prepared)
    loop = dataclasses.replace(config.trainer, num_epochs=_EPOCHS)
    config = dataclasses.replace(config, data=data, trainer=loop, output=output)
    run = create_run(config, dataset=dataset.folder, code=[])
    return Trainer(run, dataset, report=report)


def _bare_loop(config: Config, model: DLRMConfig, trainer: Trainer) -> BareLoop:
    assert config.workload is not None
    batches = trainer.train_rows.batches(0)
    in_memory = [bare_batch(batch) for batch in islice(batches, _BATCHES_IN_MEMORY)]
    return BareLoop(
        table_rows=config.workload.table_rows,
        num_dense=config.workload.num_dense,
        model=model,
        sparse=config.optimizer.sparse,
        dense_lr=config.optimizer.dense.lr,
        batches=in_memory,
    )


def _advance(steps: Iterator[object]) -> None:
    for _ in range(_STEPS_PER_ROUND):
        next(steps)


def format_training(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    speeds = figures["examples_per_second"]
    lines = [f"{name:<11} {speed:>10,.0f} examples/s" for name, speed in speeds.items()]
    for name, key in (
        ("dlrm / bare", "dlrm_to_bare"),
        ("bare / bare", "bare_to_itself"),
    ):
        ratio = figures[key]
        interval = f"[{ratio['low']:.3f}, {ratio['high']:.3f}]"
        lines.append(f"{name} {ratio['median']:.3f}  95 % interval {interval}")
    return "\n".join(lines)
