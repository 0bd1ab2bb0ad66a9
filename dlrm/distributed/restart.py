"""Whether this process is a later life of one that died, as launchers tell it."""

from __future__ import annotations

import os
import socket

import psutil

from dlrm.config.environment import read_environment


def is_restart() -> bool:
    """Say whether torchrun has started this job's processes before."""
    return read_environment().restart_count not in ("", "0")


def launch_id() -> str | None:
    """Return what all lives of a job have in common; None without torchrun.

    The rendezvous' own name where it has one. Static rendezvous are all called
    ``none``: there it is the torchrun process of this machine, by its start time, as
    numbers of processes come again.
    """
    name = read_environment().launch_id
    if name is None:
        return None
    if name not in ("", "none"):
        return name
    agent = psutil.Process(os.getppid())
    return f"{socket.gethostname()}:{agent.pid}:{agent.create_time():.3f}"


def agent_keeps_store() -> bool:
    """Say whether torchrun itself keeps the job's store, and not the first process."""
    return read_environment().agent_keeps_store
