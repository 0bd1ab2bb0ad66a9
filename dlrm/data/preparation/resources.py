"""How many processes prepare, and what memory each of them may count in."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dlrm.config.data import DataConfig

_GIB = 1 << 30
_GIB_A_WORKER = 0.6
_BASE_BYTES = 260 << 20
"""What a process takes beside its counts: its libraries, and a block of raw text."""
_LEAST_TASK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Resources:
    """Processes, and bytes that one task of counting may hold."""

    num_workers: int
    task_bytes: int

    @classmethod
    def of(cls, data: DataConfig) -> Resources:
        """Divide ``data.memory_gib`` among ``data.num_workers``.

        Fewer processes work where there is not memory enough for all.
        """
        wanted = data.num_workers or available_cores()
        if data.memory_gib is None:
            memory = int(wanted * _GIB_A_WORKER * _GIB) + _BASE_BYTES // 2
        else:
            memory = int(data.memory_gib * _GIB)
        num_workers = max(1, min(wanted, memory // (_BASE_BYTES + _LEAST_TASK_BYTES)))
        task_bytes = max(_LEAST_TASK_BYTES, memory // num_workers - _BASE_BYTES)
        return cls(num_workers, task_bytes)


def available_cores() -> int:
    """Count the cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not Linux.
        return os.cpu_count() or 1
