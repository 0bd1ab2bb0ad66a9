from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from dlrm.config.errors import InstallationError
from dlrm.config.root import LoggerConfig
from dlrm.metric_log import METRICS_FILE, MetricLog, read_metrics

QUIET = LoggerConfig(tensorboard=False)


def open_log(
    folder: Path, *, logger: LoggerConfig = QUIET, from_step: int = 0
) -> MetricLog:
    return MetricLog(folder, logger=logger, config={"seed": 1}, from_step=from_step)


def test_each_record_is_one_line_of_json(tmp_path: Path):
    log = open_log(tmp_path)
    log.write({"step": 1, "loss": 0.5})
    log.write({"step": 2, "loss": 0.25})
    log.close()
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    expected = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert [json.loads(line) for line in lines] == expected


def test_going_on_from_a_step_drops_what_came_after_it(tmp_path: Path):
    log = open_log(tmp_path)
    for step in (1, 2, 3):
        log.write({"step": step})
    log.close()
    open_log(tmp_path, from_step=2).close()
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]


def test_a_half_written_last_line_is_left_out(tmp_path: Path):
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_tensorboard_holds_the_numbers_by_split(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = open_log(tmp_path, logger=LoggerConfig(tensorboard=True))
    log.write({"step": 3, "loss": 0.5})
    log.write({"step": 3, "split": "valid", "auc": 0.75, "pr_auc": None})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["train/loss", "valid/auc"]
    assert [(e.step, e.value) for e in events.Scalars("valid/auc")] == [(3, 0.75)]


def test_a_logger_that_is_not_installed_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        InstallationError, match="logger.mlflow=true.*pip install mlflow"
    ):
        open_log(tmp_path, logger=LoggerConfig(tensorboard=False, mlflow=True))


class FakeTracker(types.ModuleType):
    """Stands for mlflow and wandb: it writes down how it is called."""

    def __init__(self) -> None:
        super().__init__("tracker")
        self.calls: list[tuple[str, object]] = []

    def __getattr__(self, name: str) -> object:
        def record(*values: object, **options: object) -> FakeTracker:
            self.calls.append((name, values or options))
            return self

        return record


@pytest.mark.parametrize(
    ("name", "method"), [("mlflow", "log_metrics"), ("wandb", "log")]
)
def test_trackers_get_the_numbers_and_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
):
    tracker = FakeTracker()
    monkeypatch.setitem(sys.modules, name, tracker)
    logger = LoggerConfig(
        tensorboard=False, mlflow=name == "mlflow", wandb=name == "wandb"
    )
    log = open_log(tmp_path, logger=logger)
    log.write({"step": 1, "split": "valid", "auc": 0.5, "note": "text"})
    log.close()
    assert (method, ({"valid/auc": 0.5},)) in tracker.calls
    assert tracker.calls[-1][0] in ("end_run", "finish")
