"""Predictions that the processes of a job make together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from dlrm.distributed.watch import Phase
from dlrm.evaluation.judge import Found, Judge

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlrm.data.batch import Batch
    from dlrm.distributed.job import Job

_BATCHES_AT_A_TIME = 64
"""What a process holds of its own predictions before the first one takes them."""


def collect_over_ranks(
    judge: Judge,
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    job: Job,
) -> Found | None:
    """Return the rows of all processes on the first one, and None on the others.

    Rows are put into the order of their ids, so that metrics are the same numbers
    however the rows were dealt. Every process gives its own part of them in equally
    many batches, the k-th ones of equal sizes; padding rows (row id -1) are dropped.
    """
    if job.control is None:
        return judge.collect(model, batches, device)
    parts: list[Found] = []
    rest = _marked(batches, job)
    for first in rest:
        some = chain([first], islice(rest, _BATCHES_AT_A_TIME - 1))
        parts += job.gather(judge.collect(model, some, device))
    return judge.concatenate(parts) if job.is_writer else None


def _marked(batches: Iterable[Batch], job: Job) -> Iterator[Batch]:
    """Let the watch see every batch as a move."""
    for number, batch in enumerate(batches):
        job.watch.enter(Phase.evaluate, f"batch {number} of an evaluation")
        yield batch
