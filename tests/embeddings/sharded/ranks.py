"""Processes that stay up and run the jobs of many tests as ranks of one gloo group."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 60.0


class RankError(Exception):
    """A job's error on one of the ranks; the text holds its traceback."""


class Ranks:
    """``world_size`` processes; ``run`` sends all of them one job."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._start()

    def _start(self) -> None:
        world_size = self.world_size
        self._folder = tempfile.TemporaryDirectory()
        store = f"file://{Path(self._folder.name) / 'store'}"
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, rank, world_size, store), daemon=True
            )
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, job: Callable[..., Any], *args: Any) -> list[Any]:
        """Return what ``job(group, *args)`` returns on every rank.

        ``job`` is a function of a module that can be imported.
        """
        for pipe in self._pipes:
            pipe.send((job, args))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        results = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                results.append((False, f"rank {rank} did not finish in time"))
                break
            results.append(pipe.recv())
        errors = [text for fine, text in results if not fine]
        if errors:
            # The group may be out of step: a collective that one rank never entered.
            self.stop()
            self._start()
            raise RankError("\n".join(errors))
        return [value for _, value in results]

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(5)
        self._folder.cleanup()


def _serve(pipe: Connection, rank: int, world_size: int, store: str) -> None:
    import torch

    from dlrm.distributed.context import ProcessContext
    from dlrm.distributed.process_group import process_group

    torch.set_num_threads(1)
    context = ProcessContext(rank=rank, local_rank=rank, world_size=world_size)
    with process_group(
        context,
        device=torch.device("cpu"),
        init_method=store,
        timeout_seconds=TIMEOUT_SECONDS,
    ) as group:
        while True:
            try:
                job, args = pipe.recv()
                pipe.send((True, job(group, *args)))
            except EOFError:
                return
            except Exception:
                pipe.send((False, traceback.format_exc()))
