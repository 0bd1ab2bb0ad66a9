"""The program whose children share the work of a preparation, seen from outside.

It is started, not forked: the process that prepares may run torch, threads or a
notebook. It imports what the work needs once, forks itself for each worker, and waits
for them. This module imports little, so that it can be started early.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from dlrm.config.data import DataConfig
from dlrm.config.environment import child_environment
from dlrm.config.errors import UserError
from dlrm.data.preparation.resources import Resources
from dlrm.data.sources.files import resolve_files
from dlrm.data.sources.remote import is_remote

LARGE_BYTES = 64 << 20
"""Files of more are work for several processes, whatever their format."""
_PROGRAM = "dlrm.data.preparation.worker"


@dataclass(frozen=True, slots=True)
class Nursery:
    """The program, and a connection to each of its workers."""

    process: subprocess.Popen[bytes]
    connections: tuple[Connection, ...]

    @classmethod
    def start(cls, num_workers: int) -> Nursery:
        """Start the program; each worker says so once it takes tasks."""
        pairs = [socket.socketpair() for _ in range(num_workers)]
        descriptors = [theirs.fileno() for _, theirs in pairs]
        # Its own session: Ctrl-C is for this process, which then ends the others.
        process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, *map(str, descriptors)],
            pass_fds=descriptors,
            env=child_environment(
                PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
                # Who forks had better have one thread, and nobody multiplies matrices.
                OPENBLAS_NUM_THREADS="1",
            ),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _, theirs in pairs:
            theirs.close()
        return cls(process, tuple(Connection(ours.detach()) for ours, _ in pairs))

    def exit_code(self) -> int:
        """Wait until the program ends, as the first worker did that failed."""
        return self.process.wait()

    def end(self) -> None:
        """End all workers at once, whatever they do."""
        self.process.terminate()
        for connection in self.connections:
            connection.close()
        self.process.wait()


def nursery_for(data: DataConfig) -> Nursery | None:
    """Start the program if ``data`` names large files that seem not to be prepared.

    To be called before this process has imported what the work needs: that takes as
    long here as there.
    """
    num_workers = Resources.of(data).num_workers
    source = data.source or ""
    if num_workers == 1 or any(map(is_remote, source.split(";"))):
        return None
    # Whatever is wrong is told where the files are opened.
    with suppress(UserError, OSError):
        size = sum(file.stat().st_size for file in resolve_files(source))
        if size > LARGE_BYTES and not any(Path(data.prepared).glob(f"{data.name}-*")):
            return Nursery.start(num_workers)
    return None
