"""Do tasks in children: ``python -m dlrm.data.preparation.worker D ...``.

Each D is the descriptor of a socket, over which tasks come to one child and outcomes
go. A child ends with the process at the other end, however that one ends and whatever
is being done. This process itself only waits for its children, and ends as the first of
them did that failed.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import pyarrow as pa

from dlrm.data.preparation.arrow_start import go_without_pandas
from dlrm.data.preparation.blocks import perform
from dlrm.data.preparation.workers import READY
from dlrm.kernels.freed_memory import keep_freed_memory


def main(descriptors: list[int]) -> None:
    """Fork a worker for each descriptor, and wait for all of them."""
    _warm_up()
    signals = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    children = []
    for own in descriptors:
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            _close(other for other in descriptors if other != own)
            _work(own)
        children.append(child)
    _close(descriptors)
    signal.signal(signal.SIGTERM, lambda *_: _kill(children))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    failed = 0
    while children:
        child, status = os.wait()
        children.remove(child)
        if status and not failed:
            failed = status
            _kill(children)
    _end_as(os.waitstatus_to_exitcode(failed))


def _warm_up() -> None:
    """Import what tasks need, once for all who do them."""
    pa.set_cpu_count(1)
    go_without_pandas()
    keep_freed_memory()
    importlib.import_module("dlrm.data.preparation.passes")
    gc.freeze()


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _kill(children: Iterable[int]) -> None:
    """Kill those children that are still there."""
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _end_as(code: int) -> NoReturn:
    """End with an exit code, or where it is negative by that signal."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(max(code, 0))


def _work(descriptor: int) -> NoReturn:
    """Do tasks until the other end closes."""
    connection: Connection = Connection(descriptor)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reader = threading.Thread(target=_receive, args=(connection, tasks), daemon=True)
    reader.start()
    try:
        connection.send_bytes(READY)
        while True:
            connection.send_bytes(_outcome(tasks.get()))
    except OSError:
        os._exit(0)


def _receive(connection: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    # The next task is taken in while one is done: who sends it need not wait.
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _outcome(task: bytes) -> bytes:
    """Return a pickled pair: the result and None, or None and the error."""
    pair: tuple[Any, BaseException | None]
    try:
        pair = perform(pickle.loads(task)), None
    except Exception as error:
        pair = None, error
    try:
        made = pickle.dumps(pair)
        pickle.loads(made)
    except Exception:
        text = "".join(traceback.format_exception(pair[1]))
        made = pickle.dumps((None, RuntimeError(text)))
    return made


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
