"""Steps that all processes take together, whatever their sources give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dlrm.config.errors import DataError, OtherRankError
from dlrm.data.batch import Batch
from dlrm.distributed.gathering import gather_sizes
from dlrm.distributed.job import Job

T = TypeVar("T")

_ENDED, _FAILED = -1, -2


def in_lockstep(
    batches: Iterable[Batch], job: Job, empty: Callable[[int], Batch]
) -> Iterator[Batch]:
    """Yield batches until every process's are exhausted, equally long in each step.

    For sources that cannot be indexed: they may give processes different numbers of
    batches, none too, of different sizes. A shorter batch is padded; an exhausted
    process goes on with ``empty(size)``, padding rows alone, such as
    ``Collator(schema).padding``. A step costs one exchange of a number.

    Raises:
        Exception: The source's own error; ``OtherRankError`` on the other processes.
    """
    if job.control is None:
        yield from batches
        return
    source = iter(batches)
    while True:
        step = _next(source, job, len)
        batch, sizes = step
        longest = max(sizes)
        if longest == _ENDED:
            return
        # A step without any row is none: torchrec cannot exchange bags of no rows.
        if longest > 0:
            yield empty(longest) if batch is None else batch.padded(longest)


def alike(items: Iterable[T], job: Job, *, size: Callable[[T], int]) -> Iterator[T]:
    """Yield what every process reads for itself, as long as all read the same.

    Raises:
        Exception: The source's own error; ``OtherRankError`` on the other processes.
        DataError: The items' sizes, or their number, differ between processes.
    """
    if job.control is None:
        yield from items
        return
    source = iter(items)
    while True:
        part = _next(source, job, size)
        item, sizes = part
        if len(set(sizes)) > 1:
            shown = ", ".join("its end" if n == _ENDED else f"{n:,}" for n in sizes)
            raise DataError(
                f"All processes must read the same input, but they found parts of "
                f"different numbers of rows, by rank: {shown}. Give every process the "
                f"same rows; a file must be the same one on every machine."
            )
        if item is None:
            return
        yield item


def _next(
    source: Iterator[T], job: Job, size: Callable[[T], int]
) -> tuple[T | None, list[int]]:
    """Return the next item, None at the end, and what each process has come to."""
    assert job.control is not None
    item: T | None = None
    error: Exception | None = None
    try:
        item = next(source, None)
    except Exception as caught:
        error = caught
    own = _FAILED if error else _ENDED if item is None else size(item)
    sizes = [found for (found,) in gather_sizes([own], job.control)]
    if error is not None:
        raise error
    if _FAILED in sizes:
        raise OtherRankError(
            f"Rank {sizes.index(_FAILED)} stopped the job; see its message."
        )
    return item, sizes
