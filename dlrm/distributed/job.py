"""This process among those of its job: who writes, who waits, who agrees."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from dlrm.config.errors import OtherRankError, UserError
from dlrm.config.watch import WatchConfig
from dlrm.distributed.context import ProcessContext, even_ranks_per_node
from dlrm.distributed.process_group import default_store, process_group
from dlrm.distributed.watch import NO_WATCH, Watch
from dlrm.distributed.watchman import watching

T = TypeVar("T")

_WORK_HOURS = 240
_TIMEOUT_MARGIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """This process among those of its job; ``ALONE`` where it is the only one."""

    context: ProcessContext
    group: dist.ProcessGroup | None = None
    """Carries tensors between the devices; None for one process."""
    control: dist.ProcessGroup | None = None
    """Carries Python values between the hosts, by gloo; None for one process."""
    watch: Watch = NO_WATCH
    """Where the main thread marks its moves, so that whoever hangs is named."""
    nodes_are_even: bool = True
    """Every machine has equally many processes, counted up machine by machine."""

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return self.context.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.context.world_size

    @property
    def ranks_per_node(self) -> int:
        """Processes of each machine; 1 where they are not equally many."""
        return self.context.ranks_per_node

    @property
    def is_writer(self) -> bool:
        """Say whether this process prints, and writes what is written once."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """Return the first process's ``value`` on all of them."""
        if self.control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Return all values by rank on the first process, and none on the others."""
        if self.control is None:
            return [value]
        found: list[Any] | None = [None] * self.world_size if self.is_writer else None
        dist.gather_object(value, found, dst=0, group=self.control)
        return found or []

    def all_gather(self, value: T) -> list[T]:
        """Return all values by rank, on every process."""
        if self.control is None:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def all_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes of a tensor on their devices."""
        if self.group is None:
            return values
        total = values.clone()
        dist.all_reduce(total, group=self.group)
        return total

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.control is not None:
            dist.barrier(group=self.control)

    def agree(self, error: Exception | None) -> None:
        """Raise where any process has an error: its own, or that another has one.

        Raises:
            Exception: ``error``, or ``OtherRankError`` on processes without one.
        """
        failed = [rank for rank, bad in enumerate(self.all_gather(bool(error))) if bad]
        if error is not None:
            raise error
        if failed:
            raise OtherRankError(f"Rank {failed[0]} stopped the job; see its message.")

    def by_writer(self, work: Callable[[], T]) -> T:
        """Let the first process work, however long, and give all its result.

        Raises:
            Exception: The work's own error; ``OtherRankError`` on the others.
        """
        if self.control is None:
            return work()
        result: T | None = None
        error: Exception | None = None
        if self.is_writer:
            try:
                result = work()
            except Exception as caught:
                error = caught
        self.agree(error)
        return self.broadcast(result)  # type: ignore[return-value]

    def together(self, work: Callable[[], T]) -> T:
        """Let every process work and give each its own result, or all an error.

        Raises:
            UserError: That of the first process with one, in its words on all.
            Exception: Another error of this process; ``OtherRankError`` on the others.
        """
        if self.control is None:
            return work()
        result: T | None = None
        error: Exception | None = None
        try:
            result = work()
        except Exception as caught:
            error = caught
        known = (type(error), str(error)) if isinstance(error, UserError) else None
        for told in self.all_gather(known):
            if told is not None:
                raise told[0](told[1]) from error
        self.agree(error)
        return result  # type: ignore[return-value]


ALONE = Job(context=ProcessContext())
"""One process: every method is the value itself."""


@contextlib.contextmanager
def joined(
    device: torch.device,
    *,
    init_method: str | None = None,
    watch: WatchConfig | None = None,
) -> Iterator[Job]:
    """Meet the job's other processes, as torchrun or Slurm tells of them.

    Whoever then keeps the others waiting is named by ``Job.watch``; an error of one
    ends all.

    Raises:
        ConfigError: The environment's variables make no sense.
        OtherRankError: Another process failed, while this one waited for it.
        RankGoneError: The processes did not meet, or another one died or hangs.
    """
    context = ProcessContext.from_environment()
    if context.world_size == 1:
        yield ALONE
        return
    watch = watch or WatchConfig()
    with (
        watching(context, watch) as watchman,
        # The watch gives up first, and says on whom.
        process_group(
            context,
            device=device,
            init_method=init_method,
            timeout_seconds=watch.give_up + _TIMEOUT_MARGIN_SECONDS,
        ) as group,
        watchman.over(default_store()),
    ):
        job = job_over(group, context)
        yield dataclasses.replace(job, watch=watchman.watch)


def job_over(group: dist.ProcessGroup, context: ProcessContext | None = None) -> Job:
    """Return the job of a group of processes that have met."""
    if context is None:
        context = ProcessContext(
            rank=group.rank(),
            local_rank=group.rank(),
            world_size=group.size(),
            ranks_per_node=group.size(),
        )
    # Preparing data may take a day, while the others wait for its end.
    control = dist.new_group(backend="gloo", timeout=timedelta(hours=_WORK_HOURS))
    job = Job(context=context, group=group, control=control)
    even = even_ranks_per_node(job.all_gather(context))
    context = dataclasses.replace(context, ranks_per_node=even or 1)
    return dataclasses.replace(job, context=context, nodes_are_even=even is not None)
