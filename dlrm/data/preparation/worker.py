"""A process that does tasks: ``python -m dlrm.data.preparation.worker DESCRIPTOR``.

Tasks come and outcomes go over the socket with this descriptor. It ends with the
process at the other end, however that one ends and whatever is being done.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from dlrm.data.preparation.arrow_start import go_without_pandas
from dlrm.data.preparation.blocks import perform
from dlrm.data.preparation.workers import READY
from dlrm.kernels.freed_memory import keep_freed_memory


def main(descriptor: int) -> None:
    """Do tasks until the other end closes."""
    pa.set_cpu_count(1)
    connection: Connection = Connection(descriptor)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reader = threading.Thread(target=_receive, args=(connection, tasks), daemon=True)
    reader.start()
    _warm_up()
    connection.send_bytes(READY)
    while True:
        outcome = _outcome(tasks.get())
        try:
            connection.send_bytes(outcome)
        except OSError:
            return


def _warm_up() -> None:
    """Import what tasks need, before the first one is waited for."""
    go_without_pandas()
    keep_freed_memory()
    importlib.import_module("dlrm.data.preparation.passes")


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
    main(int(sys.argv[1]))
