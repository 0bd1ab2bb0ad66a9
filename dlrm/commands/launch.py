"""``launcher.processes=N``: one command becomes N ranks on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.config.compose import CONFIG_FILE, load_config
from dlrm.config.errors import ConfigError
from dlrm.config.launcher import LauncherConfig
from dlrm.config.terminal_text import plain
from dlrm.config.trainer import Device, TrainerConfig
from dlrm.distributed.context import ProcessContext, is_launched, offer
from dlrm.distributed.failure import (
    RankFailure,
    failure_before_restart,
    read_failure,
)

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_GRACE_SECONDS = 3600
"""For ranks that were asked to stop to save what they have; the next signal hurries."""
_TRY_AGAIN = 75
"""The exit code where a rank died: another try may fare better (EX_TEMPFAIL)."""
_LOOPBACK = ("lo", "lo0")
_TORCH_LOGGER = "torch.distributed.elastic"


def needed(launcher: LauncherConfig) -> bool:
    """Say whether this process has to start others, which are not started yet.

    Raises:
        ConfigError: Another launcher's variables make no sense.
    """
    several = launcher.processes is not None and (
        launcher.processes > 1 or launcher.max_restarts > 0
    )
    return several and not is_launched()


def check_launched(launcher: LauncherConfig) -> None:
    """Refuse to start processes from a Python program, whose copies they would be.

    Raises:
        ConfigError: The settings ask for processes that are not started yet.
    """
    if needed(launcher):
        raise ConfigError(
            f"launcher.processes={launcher.processes} is for the command line: from "
            f"Python one process trains. Type dlrm train launcher.processes="
            f"{launcher.processes} ..., or set launcher.processes=null."
        )


def refuse_ranks(command: str) -> None:
    """Refuse to be one of several processes, each of which would do all the work.

    Raises:
        ConfigError: A launcher started this process with others.
    """
    world_size = ProcessContext.from_environment().world_size
    if world_size > 1:
        raise ConfigError(
            f"dlrm {command} must be one process, but a launcher started {world_size} "
            f"(WORLD_SIZE or SLURM_NTASKS). Start it without torchrun or srun."
        )


def run_on(
    run_folder: Path, argv: Sequence[str], *, processes: str | None
) -> int | None:
    """Run ``dlrm <argv>``, a command on a run, as so many ranks; return the exit code.

    None where this process is to do the work itself.

    Raises:
        ConfigError: ``processes`` is no number above 0.
    """
    if processes is None:
        return None
    if not re.fullmatch("[1-9][0-9]{0,4}", processes):
        raise ConfigError(f"processes must be a number above 0, but is '{processes}'.")
    launcher = LauncherConfig(processes=int(processes))
    file = run_folder / CONFIG_FILE
    if not needed(launcher) or not file.is_file():
        return None
    return run(argv, launcher=launcher, trainer=load_config(file).trainer)


def run(
    argv: Sequence[str], *, launcher: LauncherConfig, trainer: TrainerConfig
) -> int:
    """Run ``dlrm <argv>`` as ranks of one job, and return the job's exit code.

    A signal goes to every rank, and the job has ended when this returns. Of several
    ranks' errors the first is printed, once.

    Raises:
        ConfigError: There are fewer GPUs than processes.
    """
    number = launcher.processes or 1
    _check_gpus(number, trainer.device)
    offer(_environment(number, trainer))

    import psutil
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    older = psutil.Process().children()
    with tempfile.TemporaryDirectory(prefix="dlrm-launch-") as folder:
        try:
            _launch(argv, number, launcher.max_restarts, Path(folder))
        except ChildFailedError as error:
            return _tell(error.failures, command=argv[0])
        except (SignalException, KeyboardInterrupt):
            return 130
        finally:
            # After a third signal torch leaves its ranks to themselves.
            for child in psutil.Process().children():
                if child not in older:
                    child.kill()
    return 0


def _launch(argv: Sequence[str], number: int, max_restarts: int, folder: Path) -> None:
    from torch.distributed.elastic.multiprocessing.api import (
        DefaultLogsSpecs,
        LogsDest,
    )
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    history = _History()
    logger = logging.getLogger(_TORCH_LOGGER)
    logger.addHandler(history)
    logger.propagate = False

    class Logs(DefaultLogsSpecs):
        """torch's log folders; asked for anew whenever the ranks are started."""

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            logs = super().reify(envs)
            restart = int(envs[0]["TORCHELASTIC_RESTART_COUNT"])
            file = Path(envs[0]["TORCHELASTIC_ERROR_FILE"])
            if restart and failure_before_restart(file) is None:
                history.tell_restart(restart, max_restarts, number)
            return logs

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=max_restarts,
        logs_specs=Logs(log_dir=str(folder)),
        shutdown_timeout=_GRACE_SECONDS,
    )
    elastic_launch(config, sys.executable)("-m", "dlrm", *argv)


class _History(logging.Handler):
    """Takes in what torch's launcher logs, and keeps which rank failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._failed = "a rank failed"

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exit code and the local rank of a process that ended."""
        values = record.args
        if str(record.msg).startswith("failed (exitcode") and isinstance(values, tuple):
            code, rank = values[:2]
            if isinstance(code, int):
                self._failed = f"rank {rank} {_end_of(code)}"

    def tell_restart(self, restart: int, of: int, number: int) -> None:
        """Print that all ranks begin anew, and why."""
        all_ranks = "it is" if number == 1 else f"all {number} ranks are"
        print(
            f"dlrm: {self._failed}; {all_ranks} started again (restart {restart} of "
            f"{of}).",
            file=sys.stderr,
            flush=True,
        )


def _check_gpus(number: int, device: Device) -> None:
    import torch

    if device is Device.cpu or not torch.cuda.is_available():
        return
    count = torch.cuda.device_count()
    if number > count:
        raise ConfigError(
            f"launcher.processes must be at most the number of GPUs, {count}, but is "
            f"{number}: each process has a GPU of its own. Start fewer, or set "
            f"trainer.device=cpu."
        )


def _environment(number: int, trainer: TrainerConfig) -> dict[str, str]:
    """Return what the ranks find in their environment, where a user set nothing."""
    threads = trainer.num_threads or max(1, _num_cores() // number)
    variables = {"DLRM_LAUNCHED": "1", "OMP_NUM_THREADS": str(threads)}
    # Without it gloo looks for the host's name, which laptops in a VPN do not have.
    for _, name in socket.if_nameindex():
        if name in _LOOPBACK:
            variables["GLOO_SOCKET_IFNAME"] = name
    return variables


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tell(failures: dict[int, ProcessFailure], *, command: str) -> int:
    """Print the first failure of all ranks once, and return the exit code for it."""
    rank, failure, reason = _cause(failures)
    if reason is None:
        print(
            f"dlrm {command}: error: rank {rank} {_end_of(failure.exitcode)}, and the "
            f"others were stopped. What it printed stands above.",
            file=sys.stderr,
        )
        died = failure.exitcode < 0 or failure.exitcode == _TRY_AGAIN
        return _TRY_AGAIN if died else 1
    if reason.message:
        print(f"dlrm {command}: error: {plain(reason.message)}", file=sys.stderr)
    return reason.code


def _cause(
    failures: dict[int, ProcessFailure],
) -> tuple[int, ProcessFailure, RankFailure | None]:
    """Return the failure that the others follow from, with its rank and its reason."""

    def order(entry: tuple[int, ProcessFailure, RankFailure | None]) -> tuple[int, ...]:
        _, failure, reason = entry
        stopped = failure.exitcode in (-signal.SIGTERM, 130)
        if reason is not None and not reason.of_other_rank and not stopped:
            return 0, reason.timestamp
        follows = 2 if stopped else 1 if reason is not None else 0
        # What was killed in one second with others that then fell goes first.
        return 1, follows, failure.timestamp, 0 if failure.exitcode < 0 else 1

    entries = [
        (rank, failure, read_failure(Path(failure.error_file)))
        for rank, failure in sorted(failures.items())
    ]
    return min(entries, key=order)


def _end_of(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    why = ", as by a system that is out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{why}"
