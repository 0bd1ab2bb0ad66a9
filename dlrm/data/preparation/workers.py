"""The processes that share the work of a preparation.

They work for nobody else, and end with this process. ``nursery`` says how they start.
"""

from __future__ import annotations

import pickle
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from dlrm.config.errors import WorkerDiedError
from dlrm.data.preparation.blocks import Task, perform
from dlrm.data.preparation.nursery import Nursery

ALONE_SECONDS = 0.15
"""Work that this process does by itself first: small data needs no others. It goes on
by itself while they start."""
READY = b"ready"
"""What a worker says first."""
_TASKS_AHEAD = 2
"""Tasks a worker has: the one it does, and the next one."""


@dataclass(slots=True)
class _Worker:
    connection: Connection
    tasks: list[int] = field(default_factory=list)
    """Numbers of the tasks that it has, the one that it does first."""
    is_ready: bool = False
    """It has started and takes tasks."""


class Workers:
    """Does tasks in several processes. Use it as a context manager."""

    def __init__(
        self,
        num_workers: int,
        *,
        at_once: bool = False,
        nursery: Nursery | None = None,
    ) -> None:
        """Use ``num_workers`` processes, or with 1 this one alone.

        They start once there is enough work for them, or ``at_once``, unless they were
        started before, in a ``nursery``.
        """
        self._num_workers = num_workers
        self._at_once = at_once
        self._nursery = nursery
        self._workers: list[_Worker] = []
        self._start = time.monotonic()

    def results(self, tasks: Iterable[Task]) -> Iterator[dict[str, Any]]:
        """Yield each task's result, in the order of the tasks.

        An error is raised in its task's turn, so that of several the first one is
        told, however many processes there are.

        Raises:
            WorkerDiedError: A process ended that should not have.
        """
        waiting = iter(tasks)
        for task in waiting:
            if self._are_ready():
                yield from self._shared(chain([task], waiting))
                return
            yield perform(task)

    def _are_ready(self) -> bool:
        """Say whether there is a worker to give tasks to; start them in time."""
        if self._num_workers == 1:
            return False
        if not self._workers:
            if time.monotonic() - self._start >= ALONE_SECONDS:
                self._start_all()
            return False
        waiting = [w.connection for w in self._workers if not w.is_ready]
        for ready in wait(waiting, timeout=0) if waiting else ():
            self._take_in(ready)
        return any(worker.is_ready for worker in self._workers)

    def _shared(self, waiting: Iterator[Task]) -> Iterator[dict[str, Any]]:
        finished: dict[int, tuple[Any, BaseException | None]] = {}
        num_sent = num_yielded = 0
        more = True
        while True:
            while more and (worker := self._with_room()) is not None:
                task = next(waiting, None)
                more = task is not None
                if task is not None:
                    self._send(worker, num_sent, task)
                    num_sent += 1
            while num_yielded in finished:
                result, error = finished.pop(num_yielded)
                if error is not None:
                    raise error
                num_yielded += 1
                yield result
            if num_yielded == num_sent:
                if not more:
                    return
                continue
            self._receive(finished)

    def _with_room(self) -> _Worker | None:
        ready = (worker for worker in self._workers if worker.is_ready)
        worker = min(ready, key=lambda worker: len(worker.tasks))
        return worker if len(worker.tasks) < _TASKS_AHEAD else None

    def _receive(self, finished: dict[int, tuple[Any, BaseException | None]]) -> None:
        """Wait for outcomes, and take in those that have come."""
        for ready in wait([worker.connection for worker in self._workers]):
            worker, message = self._take_in(ready)
            if message != READY:
                finished[worker.tasks.pop(0)] = pickle.loads(message)

    def _take_in(self, connection: Any) -> tuple[_Worker, bytes]:
        worker = next(w for w in self._workers if w.connection is connection)
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._died() from error
        worker.is_ready = True
        return worker, message

    def _send(self, worker: _Worker, number: int, task: Task) -> None:
        try:
            worker.connection.send_bytes(pickle.dumps(task, protocol=5))
        except OSError as error:
            raise self._died() from error
        worker.tasks.append(number)

    def _died(self) -> WorkerDiedError:
        assert self._nursery is not None
        code = self._nursery.exit_code()
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        memory = " Perhaps memory ran out: lower data.num_workers or data.memory_gib."
        return WorkerDiedError(
            f"The processes that prepare must live until the end, but one of them "
            f"{how}.{memory if code == -signal.SIGKILL else ''} The same command goes "
            f"on from what is finished."
        )

    def _start_all(self) -> None:
        self._nursery = self._nursery or Nursery.start(self._num_workers)
        self._workers = [_Worker(each) for each in self._nursery.connections]

    def __enter__(self) -> Workers:
        """Return the workers."""
        if self._nursery is not None or (self._at_once and self._num_workers > 1):
            self._start_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all processes at once, whatever they do."""
        if self._nursery is not None:
            self._nursery.end()
        self._nursery = None
        self._workers.clear()
