"""Start a new run from an old one's tables and parameters: ``init_from``.

Nothing of the old run is executed: its schema and vocabularies say what its rows stand
for, and its checkpoint is plain tensors. What has no counterpart is told, and nothing
is cut to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dlrm.checkpoints.load import read_state
from dlrm.config.errors import RunError, UserError
from dlrm.config.root import Config
from dlrm.config.schema import FeatureSchema
from dlrm.data.transforms.row_matching import FittedTables
from dlrm.data.transforms.vocabulary import LABEL_CLASSES, row_key_hashes
from dlrm.distributed.job import ALONE, Job
from dlrm.embeddings.outline import TableOutline, table_outlines
from dlrm.embeddings.state import table_parts
from dlrm.run import Run, find_checkpoint, open_run
from dlrm.warm_start.parameters import map_optimizer, map_parameters
from dlrm.warm_start.record import WarmStart
from dlrm.warm_start.tables import OldTables, map_table


@dataclass(frozen=True, slots=True)
class OldRun:
    """The run that ``init_from`` names, and its checkpoint."""

    run: Run
    folder: Path
    """The checkpoint's, whose files have been checked."""
    state: dict[str, Any]
    """The checkpoint's."""


def open_old_run(config: Config, job: Job = ALONE) -> OldRun:
    """Open the run that ``init_from`` names, and find its checkpoint, whole.

    All processes of ``job`` call this; each checks some of the files.

    Raises:
        RunError: The run or the checkpoint is missing or damaged.
    """
    assert config.init_from is not None
    try:
        old, folder = job.together(lambda: _find(config))
        # The best may change while an old run is still training.
        folder = job.broadcast(folder)
        return OldRun(old, folder, read_state(folder, job))
    except UserError as error:
        raise RunError(
            f"init_from must name a run with a whole checkpoint, but "
            f"'{config.init_from}' with init_from_checkpoint="
            f"{config.init_from_checkpoint} is not one: {error}"
        ) from error


def start_from_run(
    run: Run,
    *,
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer,
    job: Job = ALONE,
) -> WarmStart:
    """Copy what fits from the run that ``run.config.init_from`` names.

    All processes of ``job`` call this; each fills its own parts of the tables, and all
    return the same.

    Raises:
        UserError: The old run is missing or damaged; on all processes.
    """
    old = open_old_run(run.config, job)
    outlines = table_outlines(model, job)
    return job.together(lambda: _start(run, old, outlines, model, dense_optimizer))


def _find(config: Config) -> tuple[Run, Path]:
    assert config.init_from is not None
    old = open_run(Path(config.init_from))
    return old, find_checkpoint(old, config.init_from_checkpoint)


def _start(
    run: Run,
    given: OldRun,
    outlines: dict[str, TableOutline],
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer,
) -> WarmStart:
    old, folder, state = given.run, given.folder, given.state
    tables = OldTables(folder, state["tables"], FittedTables(old.folder, old.schema))
    new = FittedTables(run.folder, run.schema)
    parts = table_parts(model)
    mapped = [
        map_table(outline, [p for p in parts if p.table == name], old=tables, new=new)
        for name, outline in outlines.items()
    ]
    parameters = map_parameters(model, folder)
    was, now = (config.optimizer.dense.name for config in (old.config, run.config))
    if was != now:
        parameters.state_not_mapped = f"it is {now}, was {was}"
    else:
        map_optimizer(
            dense_optimizer,
            model,
            folder=folder,
            scalars=state["dense_optimizer"],
            mapped=parameters.mapped,
        )
    return WarmStart(
        run=str(old.folder.resolve()),
        checkpoint=folder.name,
        data_fingerprint=old.schema.fingerprint,
        tables=mapped,
        dropped_tables=sorted(tables.entries.keys() - {m.table for m in mapped}),
        parameters=parameters,
        features_differ=_features(old.schema) != _features(run.schema),
        classes_differ=not np.array_equal(_classes(old), _classes(run)),
    )


def _features(schema: FeatureSchema) -> list[str]:
    dense = [f"{fitted.name} {fitted.num_columns}" for fitted in schema.dense]
    return dense + [fitted.name for fitted in schema.sparse]


def _classes(run: Run) -> np.ndarray:
    if run.schema.num_label_bags == 0:
        return np.zeros(0, dtype=np.uint64)
    return row_key_hashes(run.folder, LABEL_CLASSES, run.schema.num_classes + 1)
