"""Which process of the job this is, as launchers tell it through the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlrm.config.errors import ConfigError

_FIRST_PORT, _NUM_PORTS = 15_000, 15_000
"""Below those that systems give to outgoing connections."""


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """Rank and number of processes, and where they meet."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    ranks_per_node: int = 1
    """Processes of this machine."""
    init_method: str = "env://"
    """Where torch's processes meet: MASTER_ADDR and MASTER_PORT, or tcp://host:port."""
    by_slurm: bool = False
    """Each process is a task of an srun step."""

    @property
    def meeting_place(self) -> str:
        """Host and port of ``init_method``, for messages."""
        if self.init_method != "env://":
            return self.init_method.removeprefix("tcp://")
        host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
        return f"{host}:{port}" if host and port else self.init_method

    @classmethod
    def from_environment(cls) -> ProcessContext:
        """Read torchrun's variables or, within an srun step, Slurm's.

        One process where neither is set: in a batch script without srun, too.

        Raises:
            ConfigError: A variable is missing beside others, or is no whole number.
        """
        rank, size = _number("RANK"), _number("WORLD_SIZE")
        local_rank, local_size = _number("LOCAL_RANK"), _number("LOCAL_WORLD_SIZE")
        if rank is None and size is None:
            return _slurm_step()
        size = 1 if size is None and rank is None else size
        if size is None:
            raise _missing("WORLD_SIZE", "RANK")
        if rank is None and size > 1:
            raise _missing("RANK", "WORLD_SIZE")
        if size > 1:
            for name in ("MASTER_ADDR", "MASTER_PORT"):
                if not os.environ.get(name):
                    raise _missing(name, "WORLD_SIZE")
        # One process a machine where nothing else is said, as Kubeflow does.
        return _checked(
            cls(
                rank=rank or 0,
                local_rank=local_rank or 0,
                world_size=size,
                ranks_per_node=local_size or 1,
            )
        )


def is_launched() -> bool:
    """Say whether a launcher started this process as one of a job, even the only one.

    Raises:
        ConfigError: The launcher's variables make no sense.
    """
    return "RANK" in os.environ or ProcessContext.from_environment().world_size > 1


def even_ranks_per_node(contexts: Sequence[ProcessContext]) -> int | None:
    """Return how many processes each machine has; None where they are not alike.

    ``contexts`` are those of all processes by rank. Ranks count up machine by machine
    where this is not None: machine m has ranks m * L to (m + 1) * L - 1.
    """
    number = contexts[0].ranks_per_node
    alike = all(
        each.ranks_per_node == number and each.local_rank == rank % number
        for rank, each in enumerate(contexts)
    )
    return number if alike and len(contexts) % number == 0 else None


def first_host(hosts: str) -> str:
    """Return the first of Slurm's list of hosts, such as ``node[01-03,7]-ib,login``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    assert first is not None
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0])


def port_of(job: int, step: int = 0) -> int:
    """Return the port on which a batch system's job meets, the same on every node."""
    # 16 steps of one job, which may run side by side, have ports of their own.
    return _FIRST_PORT + (16 * job + step % 16) % _NUM_PORTS


def offer(variables: Mapping[str, str]) -> None:
    """Set variables that are not set yet, for processes that this one will start."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _slurm_step() -> ProcessContext:
    # srun alone sets it: SLURM_NTASKS is set in batch scripts, too, which are one
    # process however many tasks they may start.
    size = _number("SLURM_STEP_NUM_TASKS") or 1
    if size == 1:
        return ProcessContext()
    rank, local_rank = _number("SLURM_PROCID"), _number("SLURM_LOCALID")
    job = _number("SLURM_JOB_ID")
    hosts = _first_set("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
    for name, value in (
        ("SLURM_PROCID", rank),
        ("SLURM_LOCALID", local_rank),
        ("SLURM_JOB_ID", job),
        ("SLURM_STEP_NODELIST", hosts),
    ):
        if value is None:
            raise _missing(name, "SLURM_STEP_NUM_TASKS")
    assert rank is not None
    assert local_rank is not None
    assert job is not None
    assert hosts is not None
    host = os.environ.get("MASTER_ADDR") or first_host(hosts)
    step = _number("SLURM_STEP_ID") or 0
    port = _number("MASTER_PORT") or port_of(job, step)
    return _checked(
        ProcessContext(
            rank=rank,
            local_rank=local_rank,
            world_size=size,
            ranks_per_node=_slurm_tasks_here() or size,
            init_method=f"tcp://{host}:{port}",
            by_slurm=True,
        )
    )


def _slurm_tasks_here() -> int | None:
    """Read this machine's number from Slurm's list, such as ``2(x3),1``."""
    text = _first_set("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    counts: list[int] = []
    for part in (text or "").split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is not None:
            counts += [int(match[1])] * int(match[2] or 1)
    node = _number("SLURM_NODEID") or 0
    return counts[node] if node < len(counts) else None


def _checked(context: ProcessContext) -> ProcessContext:
    if context.rank >= context.world_size:
        raise ConfigError(
            f"A process's rank must be below the number of processes, but this is "
            f"rank {context.rank} of {context.world_size}. RANK and WORLD_SIZE, or "
            f"Slurm's variables, come from two launchers: unset those of one."
        )
    return context


def _missing(name: str, given: str) -> ConfigError:
    return ConfigError(
        f"The environment variable {name} must be set where {given} is "
        f"({given}={os.environ.get(given)}), but it is not. Launchers such as torchrun "
        f"set them all; unset {given} without one."
    )


def _first_set(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    if text and not text.isdigit():
        raise ConfigError(
            f"The environment variable {name} must be a whole number, but it is "
            f"'{text}'. Launchers such as torchrun set it; unset it without one."
        )
    return int(text) if text else None
