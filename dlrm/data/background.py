"""An iterator that works ahead on its own thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Made(Generic[T]):
    item: T


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


def in_background(items: Iterator[T], *, ahead: int = 2) -> Iterator[T]:
    """Yield ``items`` while a thread makes the next ``ahead`` of them.

    An error in ``items`` is raised here, after what came before it. The thread
    ends when the returned iterator is exhausted or closed.
    """
    made: queue.Queue[_Made[T] | _Ended] = queue.Queue(maxsize=ahead)
    stop = threading.Event()
    worker = threading.Thread(target=_work, args=(items, made, stop), daemon=True)
    worker.start()
    try:
        while True:
            message = made.get()
            if isinstance(message, _Ended):
                if message.error is not None:
                    raise message.error
                return
            yield message.item
    finally:
        stop.set()
        worker.join()


def _work(
    items: Iterator[T], made: queue.Queue[_Made[T] | _Ended], stop: threading.Event
) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            if not _put(made, _Made(item), stop):
                return
    except BaseException as caught:
        error = caught
    _put(made, _Ended(error), stop)


def _put(
    made: queue.Queue[_Made[T] | _Ended],
    message: _Made[T] | _Ended,
    stop: threading.Event,
) -> bool:
    # A plain put would wait for ever once nobody takes: look up now and then.
    while not stop.is_set():
        try:
            made.put(message, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
