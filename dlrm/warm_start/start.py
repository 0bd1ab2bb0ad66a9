"""The values that a new run starts from, beyond its initial ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dlrm.config.root import Config
from dlrm.run import Run, amend_manifest
from dlrm.warm_start.old_run import open_old_run, start_from_run
from dlrm.warm_start.pretrained import check_pretrained, fill_pretrained


def check_start(config: Config) -> None:
    """Refuse now what a new run could not start from, before its data are prepared.

    Raises:
        UserError: The run to start from, or a file of vectors, is missing or damaged.
    """
    check_pretrained(config)
    if config.init_from is not None:
        open_old_run(config)


def start_values(
    run: Run,
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer,
    *,
    report: Callable[[str], None],
) -> bool:
    """Fill the model of a new run as its config says; return whether it says so.

    What was taken over, and what was not, is reported and kept in the manifest.

    Raises:
        UserError: A file to start from is missing, damaged or does not fit.
    """
    vectors = fill_pretrained(run, model)
    if vectors:
        amend_manifest(run, pretrained=[table.record() for table in vectors])
    for table in vectors:
        report(table.describe())
    if run.config.init_from is None:
        return bool(vectors)
    # Last, as rows that were trained already are worth more than given vectors.
    start = start_from_run(run, model=model, dense_optimizer=dense_optimizer)
    amend_manifest(run, init_from=start.record())
    for line in start.describe():
        report(line)
    return True
