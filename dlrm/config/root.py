"""The whole configuration. Only the trainer and the commands see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlrm.config.calibration import CalibrationConfig, CalibrationMethod
from dlrm.config.checks import require
from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError
from dlrm.config.evaluation import EvaluationConfig
from dlrm.config.hardware import HardwareConfig
from dlrm.config.keys import did_you_mean
from dlrm.config.launcher import LauncherConfig
from dlrm.config.optimizer import OptimizerConfig
from dlrm.config.sharding import ShardingConfig
from dlrm.config.table_options import TableOptions
from dlrm.config.tables import check_table_widths, features_by_table
from dlrm.config.task import TaskConfig, TaskName
from dlrm.config.trainer import Monitor, TrainerConfig
from dlrm.config.watch import WatchConfig
from dlrm.config.workload import WorkloadConfig


@dataclass(kw_only=True, slots=True)
class LoggerConfig:
    """Where training metrics go beside metrics.jsonl."""

    tensorboard: bool = True
    mlflow: bool = False
    """Needs ``pip install mlflow``; reads MLFLOW_TRACKING_URI."""
    wandb: bool = False
    """Needs ``pip install wandb``; reads WANDB_MODE."""
    project: str = "dlrm"


@dataclass(kw_only=True, slots=True)
class Config:
    """What ``dlrm prepare`` and ``dlrm train`` are configured by."""

    data: DataConfig
    model: dict[str, Any]
    """Becomes the model's own config class once its file is imported."""
    tables: dict[str, TableOptions] = field(default_factory=dict)
    """Options of single embedding tables, by the table's name, which is the feature's
    where the feature sets none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    hardware: HardwareConfig | None = None
    """What ``dlrm plan`` plans for; training looks at the machine where not set."""
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    init_from: str | None = None
    """A run directory whose tables, by name and row key, and whose dense parameters a
    new run starts from."""
    init_from_checkpoint: str = "best"
    """Which of its checkpoints: ``best``, ``last`` or a name."""
    workload: WorkloadConfig | None = None
    """What ``dlrm bench`` measures with; training reads ``data`` alone."""
    output: str = "outputs"
    """Folder under which run directories are made."""
    run_name: str | None = None
    """Name of the run directory; date, time and model where not set."""
    resume: bool = False
    """Go on with ``run_name`` where that run exists, as jobs that a scheduler starts
    again want it."""

    def __post_init__(self) -> None:
        """Check what no section can check by itself.

        Raises:
            ConfigError: There are no features, those of one table differ in width, or
                options are of a table that no feature reads.
        """
        if not self.data.dense_features and not self.data.sparse_features:
            raise ConfigError(
                "data.dense_features or data.sparse_features must name a feature, but "
                "both are empty. Type, for example, +data.sparse_features.user={}"
            )
        task = self.task.resolved(self.data.label_kind)
        clicks, weight = task is TaskName.click, self.trainer.positive_weight
        wanted = "1 but for the task click"
        require(clicks or weight == 1, "trainer.positive_weight", wanted, weight)
        method, wanted = self.calibration.method, "none but for the task click"
        fitted = method is not CalibrationMethod.none
        require(clicks or not fitted, "calibration.method", wanted, method.value)
        key, wanted = self.data.keep_rate_key, "unset but for the task click"
        require(clicks or key is None, key or "", wanted, "set")
        self.task.monitor(self.data.label_kind, self.trainer.monitor)
        require(
            not self.resume or self.run_name is not None,
            "resume",
            "false without run_name, which says what to go on with",
            self.resume,
        )
        self.evaluation.check_columns(self.data)
        width = self.model.get("embedding_dim")
        check_table_widths(self.data.sparse_features, width)
        known = list(features_by_table(self.data.sparse_features))
        for table, options in self.tables.items():
            if table not in known:
                raise ConfigError(
                    f"tables.{table} must be options of a table of the data, but there "
                    f"is no table '{table}'.{did_you_mean(table, known)} It has: "
                    f"{', '.join(known) or 'none'}."
                )
            options.check(f"tables.{table}")

    @property
    def monitor(self) -> Monitor:
        """The validation metric of the best checkpoint and of early stopping."""
        return self.task.monitor(self.data.label_kind, self.trainer.monitor)
