"""``hydra/launcher=submitit_slurm``: a sweep's runs as jobs of a batch system."""

from __future__ import annotations

import dataclasses
import importlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlrm.config.errors import ConfigError, InstallationError, RunError
from dlrm.config.keys import did_you_mean
from dlrm.config.overrides import Setting, parse_override
from dlrm.config.sections import one_line
from dlrm.distributed.context import offer, port_of

if TYPE_CHECKING:
    import submitit

CHOICE, SECTION = "hydra/launcher", "hydra.launcher"
_CLUSTERS = {"submitit_slurm": "SlurmQueueConf", "submitit_local": "LocalQueueConf"}
"""hydra's names, and the plugin's classes of their settings."""
_POLL_SECONDS = 2.0
_STOPPED = 130


@dataclass(frozen=True, slots=True)
class Queue:
    """Where jobs are submitted to, by the settings of hydra's submitit plugin."""

    cluster: str
    """``slurm``, or ``local``: processes of this machine."""
    settings: dict[str, Any]
    """What is not None, by the plugin's names."""


class RankEndedError(RuntimeError):
    """A rank ended with an exit code other than 0, which its message ends with."""


def take_queue(overrides: Sequence[str]) -> tuple[Queue | None, list[str]]:
    """Take the settings of hydra's launcher out; None where there are none.

    Raises:
        ConfigError: A launcher or one of its settings is unknown.
        InstallationError: The plugin is not installed.
    """
    chosen = [text for text in overrides if text.startswith(f"{CHOICE}=")]
    given = [text for text in overrides if text.lstrip("+").startswith(f"{SECTION}.")]
    rest = [text for text in overrides if text not in chosen and text not in given]
    if not chosen and not given:
        return None, rest
    if len(chosen) != 1:
        raise ConfigError(
            f"{SECTION} settings need one {CHOICE}, but there are {len(chosen)}. Type, "
            f"for example, dlrm train -m {CHOICE}=submitit_slurm "
            f"{SECTION}.tasks_per_node=8"
        )
    name = chosen[0].partition("=")[2]
    if name not in _CLUSTERS:
        raise ConfigError(
            f"{CHOICE} must be one of {', '.join(_CLUSTERS)}, but is '{name}'."
            f"{did_you_mean(name, list(_CLUSTERS))} Without it runs start one after "
            f"another on this machine."
        )
    settings = _settings(_CLUSTERS[name], given)
    return Queue(name.removeprefix("submitit_"), settings), rest


def _settings(kind: str, given: Sequence[str]) -> dict[str, Any]:
    """Return the plugin's settings with those of the command line."""
    try:
        section = getattr(
            importlib.import_module("hydra_plugins.hydra_submitit_launcher.config"),
            kind,
        )
    except ImportError as error:
        raise InstallationError(
            f"{CHOICE}=submitit_... needs hydra's submitit plugin, which is not "
            f"installed. Install it: pip install hydra-submitit-launcher"
        ) from error
    names = [field.name for field in dataclasses.fields(section)]
    names = [name for name in names if not name.startswith("_")]
    tree = OmegaConf.structured(section)
    for text in given:
        key, _, value = text.lstrip("+").partition("=")
        name = key.removeprefix(f"{SECTION}.")
        if name.partition(".")[0] not in names:
            raise ConfigError(
                f"{key} is not a setting.{did_you_mean(name, names)} {SECTION} has: "
                f"{', '.join(names)}."
            )
        setting = parse_override(Setting(text, "", key, value))
        if setting.is_sweep_override():
            raise ConfigError(f"{key} must be one value, but {value} is several.")
        try:
            OmegaConf.update(tree, name, setting.value(), force_add="." in name)
        except OmegaConfBaseException as error:
            raise ConfigError(
                f"{key} must be of the plugin's type, but is '{value}': "
                f"{str(error).splitlines()[0]}."
            ) from error
    # Its own defaults for these name parts of hydra's configuration.
    for name, own in (("submitit_folder", ""), ("name", "dlrm")):
        if OmegaConf.is_interpolation(tree, name):
            OmegaConf.update(tree, name, own)
    values = cast("dict[str, Any]", OmegaConf.to_container(tree))
    return {
        name: value
        for name, value in values.items()
        if name in names and value not in (None, "", {})
    }


def check_queue(queue: Queue) -> None:
    """Refuse a batch system that is not at hand, before anything is written.

    Raises:
        ConfigError: It is not, or refuses a setting.
    """
    with tempfile.TemporaryDirectory() as folder:
        _executor(queue, Path(folder))


def run_jobs(
    queue: Queue, jobs: Sequence[tuple[str, list[str]]], folder: Path
) -> Iterator[tuple[int, int]]:
    """Submit ``dlrm train <arguments>`` for each job, and yield those that end.

    Args:
        queue: Where to.
        jobs: Names, and what follows ``dlrm train``.
        folder: The sweep's; logs go to its ``.submitit``.

    Yields:
        A job's number in ``jobs`` and its exit code.

    Raises:
        ConfigError: The batch system is not at hand, or refuses a setting.
        RunError: It refuses a job.
    """
    import submitit

    executor = _executor(queue, folder)
    try:
        submitted = executor.map_array(TrainTask(), [argv for _, argv in jobs])
    except (subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise RunError(
            f"{queue.cluster} must accept the jobs, but it does not: "
            f"{one_line(error).rstrip('.')}. Change {SECTION}'s settings."
        ) from error
    for (name, _), job in zip(jobs, submitted, strict=True):
        log = job.task(0).paths.stdout
        print(f"job {job.job_id}  run {folder / name}  log {log}", flush=True)
    try:
        yield from _ended(dict(enumerate(submitted)))
    except KeyboardInterrupt:
        if queue.cluster == "slurm":
            ids = " ".join(dict.fromkeys(j.job_id.partition("_")[0] for j in submitted))
            print(f"\nThe jobs go on without this table. End them by: scancel {ids}")
        raise


def _ended(waiting: dict[int, submitit.Job[int]]) -> Iterator[tuple[int, int]]:
    while waiting:
        for number in [n for n, job in waiting.items() if job.done()]:
            job = waiting.pop(number)
            code = _exit_code(job)
            log = job.task(0).paths.stderr
            state = "done" if code == 0 else f"failed (exit {code}), see {log}"
            print(f"job {job.job_id}  {state}", flush=True)
            yield number, code
        if waiting:
            time.sleep(_POLL_SECONDS)


def _executor(queue: Queue, folder: Path) -> submitit.AutoExecutor:
    import submitit

    own = {"max_num_timeout"}
    common = {
        "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb",
        "nodes", "name", "stderr_to_stdout",
    }  # fmt: skip
    values = dict(queue.settings)
    logs = values.pop("submitit_folder", str(folder / ".submitit" / "%j"))
    # A rank that dies must not leave the others waiting until the time limit.
    if queue.cluster == "slurm":
        values["srun_args"] = ["--kill-on-bad-exit=1"]
    first = {f"{queue.cluster}_{key}": values.pop(key) for key in own & set(values)}
    named = {
        key if key in common else f"{queue.cluster}_{key}": value
        for key, value in values.items()
    }
    try:
        executor = submitit.AutoExecutor(logs, cluster=queue.cluster, **first)
        executor.update_parameters(**named)
    except (RuntimeError, ValueError, NameError, AssertionError) as error:
        raise ConfigError(
            f"{CHOICE}=submitit_{queue.cluster} cannot be used as it is set: "
            f"{one_line(error).rstrip('.')}. Change {SECTION}'s settings, or submit "
            f"from a machine of the cluster."
        ) from error
    return executor


def _exit_code(job: submitit.Job[int]) -> int:
    error = job.exception()
    if error is not None:
        found = re.search(rf"{RankEndedError.__name__}: .* (\d+)$", str(error), re.M)
        return int(found[1]) if found else 1
    return next((code for code in job.results() if code), 0)


class TrainTask:
    """One rank of a job, run by submitit in a task of the batch system."""

    def __call__(self, argv: list[str]) -> int:
        """Run ``dlrm train <argv>`` and return 0, or 130 where it was told to stop.

        Raises:
            RankEndedError: It ended with another exit code.
        """
        import submitit

        environment = submitit.JobEnvironment()
        local = environment.cluster == "local"
        if local:
            offer(_local_variables(environment))
        time_up = environment._usr_sig()
        requeue = signal.getsignal(time_up)
        signal.signal(time_up, signal.SIG_IGN)
        process = subprocess.Popen([sys.executable, "-m", "dlrm", "train", *argv])
        told: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            del frame
            told.append(number)
            process.send_signal(signal.SIGTERM)

        signal.signal(time_up, stop)
        if local:  # Slurm tells the processes of its tasks, too.
            signal.signal(signal.SIGTERM, stop)
        code = process.wait()
        if time_up in told and callable(requeue):
            # Now that the run is saved: queue the job again, or end it.
            requeue(time_up, None)
        if code not in (0, _STOPPED):
            raise RankEndedError(f"dlrm train ended with exit code {code}")
        return code

    def checkpoint(self, argv: list[str]) -> submitit.helpers.DelayedSubmission:
        """Return what a job that is queued again runs: the same, which goes on."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, argv)


def _local_variables(environment: submitit.JobEnvironment) -> dict[str, str]:
    """Return torchrun's variables for a task of this machine's."""
    if environment.num_tasks == 1:
        return {}
    return {
        "RANK": str(environment.global_rank),
        "LOCAL_RANK": str(environment.local_rank),
        "WORLD_SIZE": str(environment.num_tasks),
        "LOCAL_WORLD_SIZE": str(environment.num_tasks),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port_of(int(environment.job_id))),
        "OMP_NUM_THREADS": "1",
    }
