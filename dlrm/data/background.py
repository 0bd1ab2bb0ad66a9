"""An iterator that works ahead on its own thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Made(Generic[T]):
    item: T


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


class _Handover(Generic[T]):
    """What passes between the two threads.

    Room is a queue as well: with locks of Python's own making, each item would cost
    both threads as much as a batch of training rows takes to gather.
    """

    def __init__(self, ahead: int) -> None:
        self.made: SimpleQueue[_Made[T] | _Ended] = SimpleQueue()
        self.room: SimpleQueue[None] = SimpleQueue()
        self.stopped = False
        for _ in range(ahead):
            self.room.put(None)


def in_background(items: Iterator[T], *, ahead: int = 2) -> Iterator[T]:
    """Yield ``items`` while a thread makes the next ``ahead`` of them.

    An error in ``items`` is raised here, after what came before it. The thread
    ends when the returned iterator is exhausted or closed.
    """
    handover: _Handover[T] = _Handover(ahead)
    worker = threading.Thread(target=_work, args=(items, handover), daemon=True)
    worker.start()
    try:
        while True:
            message = handover.made.get()
            if isinstance(message, _Ended):
                if message.error is not None:
                    raise message.error
                return
            handover.room.put(None)
            yield message.item
            del message
    finally:
        handover.stopped = True
        handover.room.put(None)
        worker.join()


def _work(items: Iterator[T], handover: _Handover[T]) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            handover.room.get()
            if handover.stopped:
                return
            handover.made.put(_Made(item))
            del item
    except BaseException as caught:
        error = caught
    handover.made.put(_Ended(error))
