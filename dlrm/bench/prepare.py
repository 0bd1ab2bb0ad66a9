"""Raw rows to a prepared dataset, beside torchrec's own scripts."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.bench.criteo_log import EXPONENT, write_criteo_log
from dlrm.bench.machine import describe_machine, machine_lines
from dlrm.bench.pairs import Ratio, median_of, speed_ratio
from dlrm.bench.watched_command import Watched, run_watched
from dlrm.config.compose import save_config
from dlrm.config.root import Config
from dlrm.data.preparation.summary import PrepareSummary

_THEIRS = "torchrec's scripts"
_AGAIN = f"{_THEIRS} again"


def bench_preparation(
    config: Config,
    *,
    num_rows: int,
    their_rows: int,
    num_rounds: int,
    report: Callable[[str], None],
    exponent: float = EXPONENT,
) -> dict[str, Any]:
    """Prepare a made-up log of ``num_rows``; theirs gets its first ``their_rows``.

    Ours is a whole ``dlrm prepare``, process start and all; theirs the work alone. Few
    rows are to its advantage, whose dictionaries grow. Raw rows come from memory, for
    both: a disk says nothing about either.
    """
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report(f"Writing a log of {num_rows:,} rows ...")
        log, part = folder / "log.txt", folder / "part.txt"
        write_criteo_log(log, num_rows=num_rows, exponent=exponent)
        with log.open("rb") as whole, part.open("wb") as first:
            first.writelines(islice(whole, their_rows))
        data = dataclasses.replace(config.data, source=str(log), prepared="prepared")
        (folder / "conf" / "data").mkdir(parents=True)
        _write_preset(dataclasses.replace(config, data=data), folder)
        found: dict[str, list[Watched]] = {"dlrm": [], _THEIRS: [], _AGAIN: []}
        for number in range(num_rounds):
            report(f"Round {number + 1} of {num_rounds} ...")
            for contestant in _turned(list(found), number):
                run = _ours if contestant == "dlrm" else _theirs
                _settle(log, part)
                found[contestant].append(run(folder))
        log_bytes = log.stat().st_size
        distinct_ids = _distinct_ids(folder)
    return _figures(
        machine,
        found,
        num_rows=num_rows,
        their_rows=min(their_rows, num_rows),
        log={"bytes": log_bytes, "exponent": exponent, "distinct_ids": distinct_ids},
    )


def _turned(names: list[str], number: int) -> list[str]:
    turn = number % len(names)
    return names[turn:] + names[:turn]


def _settle(*files: Path) -> None:
    """Begin every turn alike: nothing left to write, and the raw rows in memory.

    What ran before has written and read, which drives files out of the page cache.
    """
    os.sync()
    buffer = bytearray(1 << 20)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _write_preset(config: Config, folder: Path) -> None:
    """Write the data section as a preset of the folder's own."""
    import yaml

    whole = folder / "config.yaml"
    save_config(config, whole)
    content = yaml.safe_load(whole.read_text(encoding="utf-8"))["data"]
    content["name"] = "benched"
    text = yaml.safe_dump(content, sort_keys=False)
    (folder / "conf" / "data" / "benched.yaml").write_text(text, encoding="utf-8")


def _ours(folder: Path) -> Watched:
    shutil.rmtree(folder / "prepared", ignore_errors=True)
    command = [sys.executable, "-m", "dlrm", "prepare", "data=benched"]
    return run_watched(command, name="dlrm prepare", folder=folder)


def _distinct_ids(folder: Path) -> int:
    """Count the distinct ids of the training rows, as the last preparation did."""
    (dataset,) = (folder / "prepared").iterdir()
    features = PrepareSummary.load(dataset).features.values()
    return sum(feature.num_values or 0 for feature in features)


def _theirs(folder: Path) -> Watched:
    out = folder / "theirs"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    script = [sys.executable, "-m", "dlrm.bench.torchrec_scripts"]
    command = [*script, str(folder / "part.txt"), str(out)]
    watched = run_watched(command, name=_THEIRS, folder=folder)
    seconds = float(watched.output.rpartition("seconds ")[2].split()[0])
    return dataclasses.replace(watched, seconds=seconds)


def _figures(
    machine: dict[str, Any],
    found: dict[str, list[Watched]],
    *,
    num_rows: int,
    their_rows: int,
    log: dict[str, Any],
) -> dict[str, Any]:
    rows = {"dlrm": num_rows, _THEIRS: their_rows, _AGAIN: their_rows}
    seconds = {
        name: np.array([watched.seconds for watched in each]) / rows[name]
        for name, each in found.items()
    }
    noise = speed_ratio(seconds[_AGAIN], seconds[_THEIRS])
    mean = (seconds[_THEIRS] + seconds[_AGAIN]) / 2
    return {
        "measured": "prepare",
        "machine": machine,
        "num_rounds": len(found["dlrm"]),
        "rows": rows,
        "log": log,
        "rows_per_second": {
            name: dataclasses.asdict(median_of(1 / each))
            for name, each in seconds.items()
        },
        "peak_bytes": {
            name: max(watched.peak_bytes for watched in each)
            for name, each in found.items()
        },
        "ratio": dataclasses.asdict(speed_ratio(seconds["dlrm"], mean)),
        "noise": dataclasses.asdict(noise),
        "void": noise.is_noise,
    }


def format_preparation(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    lines = machine_lines(figures["machine"])
    lines.append(f"distinct ids in training rows: {figures['log']['distinct_ids']:,}")
    for name, speed in figures["rows_per_second"].items():
        lines.append(
            f"{name:<26}{speed['median']:>12,.0f} rows/s [{speed['low']:,.0f}, "
            f"{speed['high']:,.0f}] of {figures['rows'][name]:,} rows, peak "
            f"{figures['peak_bytes'][name] / 1e9:.2f} GB"
        )
    lines.append(f"dlrm / {_THEIRS:<19}{Ratio(**figures['ratio'])}")
    lines.append(f"{_THEIRS} to itself".ljust(26) + str(Ratio(**figures["noise"])))
    if figures["void"]:
        lines.append("VOID: identical code lies more than 3 % from itself.")
    return "\n".join(lines)
