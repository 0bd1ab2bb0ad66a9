"""The values that a new run starts from, beyond its initial ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dlrm.config.root import Config
from dlrm.distributed.job import ALONE, Job
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
    job: Job = ALONE,
) -> bool:
    """Fill the model of a new run as its config says; return whether it says so.

    All processes of ``job`` call this. What was taken over, and what was not, is
    reported and kept in the manifest, by the first of them.

    Raises:
        UserError: A file to start from is missing, damaged or does not fit.
    """
    vectors = fill_pretrained(run, model, job)
    if vectors:
        entry = [table.record() for table in vectors]
        job.by_writer(lambda: amend_manifest(run, pretrained=entry))
    lines = [table.describe() for table in vectors]
    if run.config.init_from is not None:
        # Last, as rows that were trained already are worth more than given vectors.
        start = start_from_run(
            run, model=model, dense_optimizer=dense_optimizer, job=job
        )
        job.by_writer(lambda: amend_manifest(run, init_from=start.record()))
        lines += start.describe()
    if job.is_writer:
        for line in lines:
            report(line)
    return bool(lines)
