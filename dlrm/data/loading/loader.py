"""Batches of a split in an epoch's order, each rank its slice, made ahead of use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dlrm.config.schema import FeatureSchema
from dlrm.data.background import in_background
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import Collator
from dlrm.data.loading.order import RowOrder
from dlrm.data.storage.split_rows import SplitRows


class BatchLoader:
    """Global batch k of an epoch is rows [kG, (k + 1)G) of that epoch's order.

    Rank r of W takes the r-th of W consecutive slices whose sizes differ by at most
    one, so every world size sees the same global batches. With W > 1 short and empty
    slices are filled with padding rows to the longest one's length, since ranks must
    agree on it.
    """

    def __init__(
        self,
        split_rows: SplitRows,
        schema: FeatureSchema,
        *,
        order: RowOrder,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        prefetch_batches: int = 4,
        pin_memory: bool = False,
    ) -> None:
        """Make nothing yet; ``prefetch_batches=0`` makes each batch when asked for."""
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), but it is {rank}.")
        if order.num_rows != split_rows.num_rows:
            raise ValueError(
                f"order must be of {split_rows.num_rows} rows, but it is of "
                f"{order.num_rows}."
            )
        self._rows = split_rows
        self.order = order
        self._global_batch_size = global_batch_size
        self._rank = rank
        self._world_size = world_size
        self._prefetch_batches = prefetch_batches
        self._pin_memory = pin_memory
        self._collator = Collator(schema)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch, a short last one included."""
        return -(-self.order.num_rows // self._global_batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's slices of global batches start, start + 1, ... of an epoch.

        With prefetching one thread works ahead from the first ``next`` until the
        iterator is exhausted or closed; its errors are raised here.
        """
        return made_ahead(self._make(epoch, start), self._prefetch_batches)

    def _make(self, epoch: int, start: int) -> Iterator[Batch]:
        local_size = -(-self._global_batch_size // self._world_size)
        scratch = self._rows.new_scratch(local_size)
        for step in range(start, self.steps_per_epoch):
            yield self._batch(epoch, step, scratch)

    def _batch(self, epoch: int, step: int, scratch: np.ndarray) -> Batch:
        first = step * self._global_batch_size
        num_rows = min(self._global_batch_size, self.order.num_rows - first)
        low = first + num_rows * self._rank // self._world_size
        high = first + num_rows * (self._rank + 1) // self._world_size
        row_ids = self.order.rows(epoch, low, high)
        if self.order.shuffle:
            rows = self._rows.gather(row_ids, scratch=scratch)
        else:
            rows = self._rows.slice(low, high)
        longest = -(-num_rows // self._world_size)
        batch = self._collator.collate(rows, row_ids, batch_size=longest)
        return batch.pin_memory() if self._pin_memory else batch


def made_ahead(batches: Iterator[Batch], num_batches: int) -> Iterator[Batch]:
    """Yield batches of which a thread makes the next few; with 0 they are as given."""
    if num_batches == 0:
        return batches
    # Fixes the caller's own number of threads before the worker sets its to one.
    torch.get_num_threads()
    return in_background(_single_threaded(batches), ahead=num_batches)


def _single_threaded(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches made without help by OpenMP threads; runs in the worker.

    A second team of threads beside the training thread's would take its cores, and
    makes OpenMP put both teams to sleep between any two operations. torch sets this
    number for the calling thread and for threads that start later, not for others.
    """
    torch.set_num_threads(1)
    yield from batches
