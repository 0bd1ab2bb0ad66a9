"""``dlrm train reproduce=RUN``: the run once more, and whether it is the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dlrm.commands import launch
from dlrm.commands.arguments import Arguments
from dlrm.commands.code import check_code, import_code
from dlrm.config.compose import CONFIG_FILE, load_config
from dlrm.config.differences import is_resumable
from dlrm.config.environment import read_environment
from dlrm.config.errors import ConfigError, RunError
from dlrm.config.progress import report_line
from dlrm.distributed.context import ProcessContext

if TYPE_CHECKING:
    from dlrm.config.root import Config
    from dlrm.reproduction import Reproduction
    from dlrm.run import Run

Begin: TypeAlias = Callable[..., "Run"]
"""Trains a new run from a config, a frame, files of code and a report."""
DIFFERENT = 1
"""Exit code where a result is not the same to the bit."""
_PLACES = ("output", "run_name", "data.source", "data.prepared")


def reproduce(argv: list[str], arguments: Arguments, *, begin: Begin) -> int:
    """Repeat a run by ``begin``; return 0 where the result is the same, else 1."""
    folder = Path(arguments.values["reproduce"])
    config = reproduction_config(folder, arguments.overrides)
    context, launched = ProcessContext.from_environment(), read_environment().launched
    if launch.needed(config.launcher) and not launched:
        given = any(text.startswith("run_name=") for text in argv)
        named = [] if given else [f"run_name={config.run_name}"]
        code = launch.run(
            ["train", *argv, *named], launcher=config.launcher, trainer=config.trainer
        )
        return code or _compared(folder, Path(config.output) / str(config.run_name))
    check_code(folder, given=bool(arguments.code))
    import_code(arguments.code)

    from dlrm.run import open_run

    if context.rank == 0:
        report_before(open_run(folder), config, report_line)
    made = begin(config, frame=None, files=arguments.code, report=report_line)
    if context.world_size == 1:
        return _compared(folder, made.folder)
    # A launcher takes any other exit code for a process that failed.
    if context.rank == 0 and not launched:
        _compared(folder, made.folder)
    return 0


def _compared(old: Path, new: Path) -> int:
    from dlrm.reproduction import compare_runs
    from dlrm.run import open_run

    first, second = open_run(old), open_run(new)
    return report_after(first, second, compare_runs(first, second), report_line)


def reproduction_config(folder: Path, overrides: Sequence[str]) -> Config:
    """Return the settings of a run that is to be repeated, in a directory of its own.

    It stands beside the first one unless ``output`` says otherwise.

    Raises:
        RunError: ``folder`` is no run.
        ConfigError: An override changes what is learned.
    """
    for text in overrides:
        key = text.partition("=")[0]
        if key not in _PLACES and not is_resumable(key):
            raise ConfigError(
                f"A run is repeated with its own settings, but {text} was given with "
                f"reproduce={folder}. Only {', '.join(_PLACES)} and what a resumed run "
                f"may change can differ; start another run for the rest."
            )
    if not (folder / CONFIG_FILE).is_file():
        raise RunError(
            f"reproduce must name a run directory, but {folder} holds no "
            f"{CONFIG_FILE}. Give the directory that dlrm train printed."
        )
    given = {text.partition("=")[0] for text in overrides}
    config = load_config(folder / CONFIG_FILE, overrides)
    # The first run's own output may be a stranger's.
    return dataclasses.replace(
        config,
        output=config.output if "output" in given else str(folder.parent),
        run_name=config.run_name if "run_name" in given else _free_name(folder),
        resume=False,
    )


def _free_name(folder: Path) -> str:
    name = f"{folder.resolve().name}-again"
    number, free = 1, name
    while (folder.parent / free).exists():
        number += 1
        free = f"{name}-{number}"
    return free


def report_before(old: Run, config: Config, report: Callable[[str], None]) -> None:
    """Say what is otherwise than in the first run, before hours are spent."""
    from dlrm.distributed.context import ProcessContext
    from dlrm.reproduction import compare_manifests
    from dlrm.surroundings import surroundings

    world_size = ProcessContext.from_environment().world_size
    now = surroundings(config, world_size=world_size)
    then = {name: value for name, value in old.manifest().items() if name in now}
    lines = list(compare_manifests(then, now))
    report(f"Repeating {old.folder}")
    for line in lines:
        report(f"  differs: {line}")
    if not lines:
        report("  the same versions, settings, threads and machine as then")


def report_after(
    old: Run, new: Run, found: Reproduction, report: Callable[[str], None]
) -> int:
    """Say whether both runs are the same, and return the exit code."""
    report("")
    if found.is_identical:
        report(
            f"Identical to the bit: {found.num_compared} files of checkpoints, metrics "
            f"and predictions of {new.folder} are those of {old.folder}."
        )
        return 0
    report(f"Not identical: {len(found.differing)} of {found.num_compared} files.")
    for line in found.differing[:20]:
        report(f"  {line}")
    if len(found.differing) > 20:
        report(f"  and {len(found.differing) - 20} more")
    for line in found.causes:
        report(f"  perhaps because of {line}")
    if not found.causes:
        report(
            "  Nothing that the manifests hold differs: the computation itself is not "
            "deterministic here."
        )
    return DIFFERENT
