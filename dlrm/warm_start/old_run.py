"""Start a new run from an old one's tables and parameters: ``init_from``.

Nothing of the old run is executed: its schema and vocabularies say what its rows stand
for, and its checkpoint is plain tensors. What has no counterpart is told, and nothing
is cut to fit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dlrm.checkpoint import read_state
from dlrm.config.errors import RunError, UserError
from dlrm.config.root import Config
from dlrm.config.schema import FeatureSchema
from dlrm.data.transforms.row_matching import FittedTables
from dlrm.data.transforms.vocabulary import LABEL_CLASSES, row_key_hashes
from dlrm.embeddings.state import table_states
from dlrm.run import Run, find_checkpoint, open_run
from dlrm.warm_start.parameters import map_optimizer, map_parameters
from dlrm.warm_start.record import WarmStart
from dlrm.warm_start.tables import OldTables, map_table


def open_old_run(config: Config) -> tuple[Run, Path]:
    """Open the run that ``init_from`` names, and find its checkpoint, whole.

    Raises:
        RunError: The run or the checkpoint is missing or damaged.
    """
    assert config.init_from is not None
    try:
        old = open_run(Path(config.init_from))
        folder = find_checkpoint(old, config.init_from_checkpoint)
        read_state(folder)
    except UserError as error:
        raise RunError(
            f"init_from must name a run with a whole checkpoint, but "
            f"'{config.init_from}' with init_from_checkpoint="
            f"{config.init_from_checkpoint} is not one: {error}"
        ) from error
    return old, folder


def start_from_run(
    run: Run, *, model: nn.Module, dense_optimizer: torch.optim.Optimizer
) -> WarmStart:
    """Copy what fits from the run that ``run.config.init_from`` names.

    Raises:
        UserError: The old run is missing or damaged.
    """
    old, folder = open_old_run(run.config)
    state = read_state(folder)
    tables = OldTables(
        folder=folder,
        steps={name: int(entry["step"]) for name, entry in state["tables"].items()},
        fitted=FittedTables(old.folder, old.schema),
    )
    new = FittedTables(run.folder, run.schema)
    mapped = [
        map_table(table, old=tables, new=new) for table in table_states(model).values()
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
        dropped_tables=sorted(tables.steps.keys() - {m.table for m in mapped}),
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
