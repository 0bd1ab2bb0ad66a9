"""Where training metrics go.

To metrics.jsonl always; to TensorBoard, MLflow and W&B on demand.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from dlrm.config.durable import write_whole, writing_to
from dlrm.config.errors import InstallationError
from dlrm.config.root import LoggerConfig
from dlrm.config.strangers import parse_json

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"
Record = dict[str, Any]


class Writer(Protocol):
    """One place that records go to."""

    def write(self, record: Record) -> None:
        """Take one record; ``step`` is always there."""
        ...

    def close(self) -> None:
        """Flush and end."""
        ...


class MetricLog:
    """All writers of a run."""

    def __init__(
        self,
        folder: Path,
        *,
        logger: LoggerConfig,
        config: Record,
        from_step: int,
        silent: bool = False,
    ) -> None:
        """Open the writers; drop an earlier start's records after ``from_step``.

        There are none where ``silent``: another process writes.
        """
        self.writers: list[Writer] = []
        if silent:
            return
        self.writers.append(JsonLines(folder / METRICS_FILE, from_step))
        if logger.tensorboard:
            self.writers.append(TensorBoard(folder / "tensorboard", from_step))
        if logger.mlflow:
            self.writers.append(MLflow(folder, logger.project, config))
        if logger.wandb:
            self.writers.append(WeightsAndBiases(folder, logger.project, config))

    def write(self, record: Record) -> None:
        """Send one record everywhere."""
        for writer in self.writers:
            writer.write(record)

    def close(self) -> None:
        """Close all writers."""
        for writer in self.writers:
            writer.close()


class JsonLines:
    """One JSON object a line."""

    def __init__(self, path: Path, from_step: int) -> None:
        kept = []
        if path.is_file():
            for line in path.read_text().splitlines():
                record = _parse(line)
                if record is not None and record["step"] <= from_step:
                    kept.append(line + "\n")
        write_whole(path, "".join(kept))
        self._path = path
        self.file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append the record."""
        with writing_to(self._path):
            self.file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Close the file."""
        with writing_to(self._path):
            self.file.close()


class TensorBoard:
    """Scalars under ``train/`` and the evaluated split's name."""

    def __init__(self, folder: Path, from_step: int) -> None:
        self.folder, self.from_step = folder, from_step
        self.writer: SummaryWriter | None = None

    def write(self, record: Record) -> None:
        """Add every number of the record."""
        if self.writer is None:
            # Not before there is something to write: its import delays the first step.
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=self.from_step + 1)
        for name, value in _numbers(record).items():
            self.writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Flush and close the event file."""
        if self.writer is not None:
            self.writer.close()


class MLflow:
    """A run of the MLflow experiment ``logger.project``."""

    def __init__(self, folder: Path, project: str, config: Record) -> None:
        self.mlflow = _import("mlflow")
        self.mlflow.set_experiment(project)
        self.mlflow.start_run(run_name=folder.name)
        self.mlflow.log_dict(config, "config.json")

    def write(self, record: Record) -> None:
        """Log every number of the record."""
        self.mlflow.log_metrics(_numbers(record), step=record["step"])

    def close(self) -> None:
        """End the run."""
        self.mlflow.end_run()


class WeightsAndBiases:
    """A run of the W&B project ``logger.project``."""

    def __init__(self, folder: Path, project: str, config: Record) -> None:
        wandb = _import("wandb")
        self.run = wandb.init(
            project=project, name=folder.name, dir=str(folder), config=config
        )

    def write(self, record: Record) -> None:
        """Log every number of the record."""
        self.run.log(_numbers(record), step=record["step"])

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def check_loggers(logger: LoggerConfig) -> None:
    """Refuse a logger whose package cannot be found, before any work is done.

    Raises:
        InstallationError: A package is missing.
    """
    for name in ("mlflow", "wandb"):
        if getattr(logger, name) and not _is_there(name):
            raise _not_there(name)


def read_metrics(folder: Path) -> list[Record]:
    """Return the records of a run's metrics.jsonl, without a half-written last line."""
    path = folder / METRICS_FILE
    lines = path.read_text().splitlines() if path.is_file() else []
    return [record for record in map(_parse, lines) if record is not None]


def _parse(line: str) -> Record | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _numbers(record: Record) -> dict[str, float]:
    place = record.get("split", "train")
    return {
        f"{place}/{name}": float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float)
    }


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _not_there(name) from error


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # Imported by somebody else, without a spec.
        return sys.modules.get(name) is not None


def _not_there(name: str) -> InstallationError:
    return InstallationError(
        f"logger.{name}=true needs the package {name}, which cannot be imported. "
        f"Install it: pip install {name}"
    )
