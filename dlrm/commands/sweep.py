"""``dlrm train -m``: one training run for each combination of swept values."""

from __future__ import annotations

import csv
import datetime
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.commands.submit import check_queue, run_jobs, take_queue
from dlrm.config.compose import compose, preset_groups
from dlrm.config.errors import ConfigError
from dlrm.config.overrides import holds_path, parse_override, parse_setting

TABLE_FILE = "sweep.csv"
_COLUMNS = ("run", "overrides", "status", "best_valid", "split", "auc", "log_loss")


@dataclass(frozen=True, slots=True)
class Job:
    """One training run of a sweep."""

    name: str
    swept: tuple[str, ...]
    """The settings that tell it from the other jobs."""
    overrides: tuple[str, ...]
    """All its settings."""


def sweep(overrides: Sequence[str], *, code: Sequence[Path] = ()) -> int:
    """Train every combination and print a table of them.

    They run one after another on this machine, or as jobs of a batch system where
    ``hydra/launcher`` names one.

    A job that fails is recorded and the next one starts. Returns 1 where any failed.

    Raises:
        ConfigError: The settings sweep over nothing, or are refused for every job.
    """
    queue, overrides = take_queue(overrides)
    folder, rest = _sweep_folder(overrides)
    jobs = expand_jobs(rest, may_be_one=queue is not None)
    _check_jobs(jobs)
    if queue is not None:
        check_queue(queue)
    folder.mkdir(parents=True)
    rows: dict[int, dict[str, Any]] = {}
    try:
        ended = (
            _run_jobs(jobs, folder, code)
            if queue is None
            else run_jobs(queue, _submitted(jobs, folder, code), folder)
        )
        for number, exit_code in ended:
            job = jobs[number]
            rows[number] = summarize_job(job, folder / job.name, exit_code=exit_code)
    finally:
        table = [rows[number] for number in sorted(rows)]
        _write_table(folder / TABLE_FILE, table)
        print(f"\n{_render(table)}\n{folder / TABLE_FILE}")
    return 1 if any(row["status"] != "done" for row in table) else 0


def _run_jobs(
    jobs: Sequence[Job], folder: Path, code: Sequence[Path]
) -> Iterator[tuple[int, int]]:
    """Run one job after another on this machine; yield their numbers and exit codes."""
    for number, job in enumerate(jobs):
        print(f"sweep {number + 1}/{len(jobs)}  {' '.join(job.swept)}", flush=True)
        yield number, _run_job(job, folder, code)


def _submitted(
    jobs: Sequence[Job], folder: Path, code: Sequence[Path]
) -> list[tuple[str, list[str]]]:
    # A job that was pre-empted and is queued again goes on with its run.
    return [(job.name, [*_arguments(job, folder, code), "resume=true"]) for job in jobs]


def expand_jobs(overrides: Sequence[str], *, may_be_one: bool = False) -> list[Job]:
    """Return one job for each combination of swept values, the last varying fastest.

    A single combination is refused, but where it ``may_be_one``.

    Raises:
        ConfigError: No setting has several values.
    """
    choices = [_values(text) for text in overrides]
    if not may_be_one and all(len(values) == 1 for values in choices):
        raise ConfigError(
            "-m needs a setting with several values, but none has. Type, for example, "
            "dlrm train -m trainer.seed=1,2,3, or leave -m out."
        )
    combinations = list(itertools.product(*choices))
    width = len(str(len(combinations) - 1))
    return [
        Job(
            name=f"{number:0{width}d}",
            swept=tuple(
                text
                for text, values in zip(chosen, choices, strict=True)
                if len(values) > 1
            ),
            overrides=chosen,
        )
        for number, chosen in enumerate(combinations)
    ]


def summarize_job(job: Job, run: Path, *, exit_code: int) -> dict[str, Any]:
    """Return a job's row of the table, with what its run directory says of it."""
    best = _read_json(run / "checkpoints" / "best.json")
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "")
    row |= {
        "run": str(run),
        "overrides": " ".join(job.swept),
        "status": "done" if exit_code == 0 else f"failed (exit {exit_code})",
        "best_valid": _best_text(best),
    }
    for split in ("test", "valid"):
        metrics = _read_json(run / "evaluation" / split / "metrics.json")
        if metrics:
            row |= {
                "split": split,
                "auc": metrics.get("auc"),
                "log_loss": metrics.get("log_loss"),
            }
            break
    return row


def _check_jobs(jobs: list[Job]) -> None:
    """Refuse here once, before any job starts, what every job would refuse."""
    for job in jobs:
        try:
            compose(job.overrides)
        except ConfigError as error:
            refused = error
        else:
            return
    raise refused


def _sweep_folder(overrides: Sequence[str]) -> tuple[Path, list[str]]:
    """Take ``output`` and ``run_name`` out: they name the sweep's folder."""
    given = {setting.key: setting.value for setting in map(parse_setting, overrides)}
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(given.get("output") or "outputs") / (
        given.get("run_name") or f"{now}-sweep"
    )
    if folder.exists():
        raise ConfigError(
            f"run_name must name a new sweep, but {folder} exists. Choose another name."
        )
    rest = [
        text
        for text in overrides
        if parse_setting(text).key not in ("output", "run_name")
    ]
    return folder, rest


def _values(text: str) -> list[str]:
    setting = parse_setting(text)
    if setting.sign == "~" or holds_path(setting.key) or not setting.value:
        return [text]
    if setting.key.endswith((".delimiter", ".separator")):
        return [text]
    if (
        setting.chooses_preset(preset_groups())
        or "," in setting.value
        or "(" in setting.value
    ):
        override = parse_override(setting)
        if override.is_sweep_override():
            key = f"{setting.sign}{setting.key}"
            return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [text]


def _arguments(job: Job, folder: Path, code: Sequence[Path]) -> list[str]:
    files = [part for path in code for part in ("--code", str(path))]
    return [*files, *job.overrides, f"output={folder}", f"run_name={job.name}"]


def _run_job(job: Job, folder: Path, code: Sequence[Path]) -> int:
    command = [sys.executable, "-m", "dlrm", "train", *_arguments(job, folder, code)]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl-C reaches the job too; it leaves its checkpoint before it ends.
            process.wait()
            raise


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _best_text(best: dict[str, Any]) -> str:
    values = {
        name: value
        for name, value in best.items()
        if name not in ("checkpoint", "step")
    }
    return " ".join(f"{name} {_text(value)}" for name, value in values.items())


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _render(rows: list[dict[str, Any]]) -> str:
    cells = [_COLUMNS, *[tuple(_text(row[name]) for name in _COLUMNS) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )


def _text(value: object) -> str:
    return (
        f"{value:.5f}"
        if isinstance(value, float)
        else str(value if value is not None else "")
    )
