"""From typing ``dlrm train`` to the first step, beside the imports that it needs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.bench.machine import describe_machine, machine_lines
from dlrm.bench.pairs import Ratio, interleave, median_of, speed_ratio
from dlrm.bench.workload import workload_columns, workload_data
from dlrm.config.compose import config_text
from dlrm.config.data import Split, TableSource
from dlrm.config.errors import ConfigError, RunError
from dlrm.config.root import Config
from dlrm.config.workload import WorkloadConfig

_IMPORTS = "import torch, torchrec"
_POLL_SECONDS = 0.005
_RUN = "benched"


def bench_start(
    config: Config,
    *,
    num_rows: int,
    num_rounds: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure both, interleaved, on a dataset that is prepared already.

    Raises:
        ConfigError: There is no workload.
        RunError: ``dlrm train`` ends before its first step.
    """
    if config.workload is None:
        raise ConfigError("dlrm bench start needs workload=w1 or workload=w2.")
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload = dataclasses.replace(config.workload, num_rows=num_rows)
        report(f"Preparing {num_rows:,} rows of {workload.name} ...")
        _write_data(config, workload, folder)
        _prepare(folder)
        report(f"{num_rounds} rounds ...")
        seconds = interleave(
            {
                "dlrm train": lambda: _first_step(folder),
                _IMPORTS: lambda: _import(folder),
                f"{_IMPORTS} again": lambda: _import(folder),
            },
            num_rounds=num_rounds,
        )
    beyond = seconds["dlrm train"] - seconds[_IMPORTS]
    return {
        "measured": "start",
        "case": workload.name,
        "machine": machine,
        "num_rounds": num_rounds,
        "seconds": {n: _figure(median_of(each)) for n, each in seconds.items()},
        "beyond_imports": _figure(median_of(beyond)),
        "ratio": _figure(speed_ratio(seconds["dlrm train"], seconds[_IMPORTS])),
        "noise": _figure(speed_ratio(seconds[f"{_IMPORTS} again"], seconds[_IMPORTS])),
    }


def _figure(found: Ratio) -> dict[str, float]:
    return dataclasses.asdict(found)


def _write_data(config: Config, workload: WorkloadConfig, folder: Path) -> None:
    """Write raw rows and presets, so that the command is one a user would type."""
    import yaml

    columns = workload_columns(workload)
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    data = dataclasses.replace(
        workload_data(workload, prepared="prepared"),
        source="rows.parquet",
        table=TableSource(),
        split=Split.random,
        split_fractions=[1.0, 0.0, 0.0],
    )
    whole = dataclasses.replace(config, data=data, workload=None)
    content = yaml.safe_load(config_text(whole))
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "conf" / "experiment").mkdir()
    preset = folder / "conf" / "data" / f"{_RUN}.yaml"
    preset.write_text(yaml.safe_dump(content["data"], sort_keys=False))
    kept = {key: content[key] for key in ("model", "optimizer", "trainer")}
    experiment = folder / "conf" / "experiment" / f"{_RUN}.yaml"
    experiment.write_text(yaml.safe_dump(kept, sort_keys=False))


def _prepare(folder: Path) -> None:
    command = [sys.executable, "-m", "dlrm", "prepare", f"data={_RUN}"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RunError(f"The rows could not be prepared: {done.stderr.strip()}")


def _first_step(folder: Path) -> None:
    """Start training and end it as soon as its first step is in the log."""
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    command = [
        sys.executable, "-m", "dlrm", "train", f"data={_RUN}", f"experiment={_RUN}",
        f"run_name={_RUN}", "trainer.log_every=1",
    ]  # fmt: skip
    log = folder / "outputs" / _RUN / "metrics.jsonl"
    with (folder / "train.log").open("w+") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while not (log.is_file() and log.stat().st_size):
                if process.poll() is not None:
                    file.seek(0)
                    raise RunError(
                        f"dlrm train must take a step to be measured, but it ended: "
                        f"{file.read().strip()[-2000:]}"
                    )
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _import(folder: Path) -> None:
    command = [sys.executable, "-c", _IMPORTS]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def format_start(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    lines = machine_lines(figures["machine"])
    for name, found in figures["seconds"].items():
        lines.append(f"{name:<30}{_shown(found)} s")
    lines.append(f"{'beyond the imports':<30}{_shown(figures['beyond_imports'])} s")
    lines.append(f"{'imports to themselves':<30}{_shown(figures['noise'])}")
    return "\n".join(lines)


def _shown(found: dict[str, float]) -> str:
    return f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
