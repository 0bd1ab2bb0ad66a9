"""Which evaluation was the best, and when to stop waiting for a better one."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.errors import ConfigError, TrainingError
from dlrm.config.task import MONITORS, TaskName
from dlrm.config.trainer import Monitor


@dataclass(slots=True)
class EarlyStopping:
    """The best value of the monitored metric so far; an equal one is not better."""

    monitor: Monitor
    patience: int | None
    best_value: float | None = None
    best_step: int = 0
    num_without_gain: int = 0
    """Evaluations in a row without a better value."""

    def check_validation(self, prior: float | None, *, clicks: bool) -> None:
        """Refuse now what the first evaluation, hours away perhaps, would refuse.

        Args:
            prior: Share of clicks in the validation split; None where there is none.
            clicks: Whether labels are clicks.

        Raises:
            ConfigError: The monitored metric would be undefined.
        """
        if prior is None:
            if self.patience is not None:
                raise ConfigError(
                    "trainer.early_stopping_patience needs a validation split, but the "
                    "data has none. Leave it out, or give data.split_fractions a "
                    "second share."
                )
            return
        monitor = self.monitor
        if not clicks:
            return
        if monitor in MONITORS[TaskName.retrieval]:
            if prior == 0.0:
                raise ConfigError(
                    f"trainer.monitor={monitor.value} needs a validation split with "
                    f"clicks, but none of its rows is one. Enlarge it "
                    f"(data.split_fractions)."
                )
            return
        if prior in (0.0, 1.0) and monitor is not Monitor.log_loss:
            raise ConfigError(
                f"trainer.monitor={monitor.value} needs a validation split with clicks "
                f"and other rows, but {prior:.0%} of its rows are clicks. Enlarge it "
                f"(data.split_fractions), or set trainer.monitor=log_loss."
            )

    def update(self, value: float | None, *, step: int) -> bool:
        """Take in one evaluation and say whether it is the best so far.

        Raises:
            TrainingError: The metric is undefined on the validation split.
        """
        if value is None:
            raise TrainingError(
                f"trainer.monitor={self.monitor.value} must be defined on the "
                f"validation split, but it is not: the split has rows of one class "
                f"only, or none, or the model predicts NaN. Enlarge the split "
                f"(data.split_fractions)."
            )
        sign = 1 if self.monitor.higher_is_better else -1
        better = self.best_value is None or sign * value > sign * self.best_value
        if better:
            self.best_value, self.best_step, self.num_without_gain = value, step, 0
        else:
            self.num_without_gain += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Say whether ``patience`` evaluations have passed without a better value."""
        return self.patience is not None and self.num_without_gain >= self.patience

    def state(self) -> dict[str, float | int | None]:
        """Return what a checkpoint must keep."""
        return {
            "best_value": self.best_value,
            "best_step": self.best_step,
            "num_without_gain": self.num_without_gain,
        }

    def load_state(self, state: dict[str, float | int | None]) -> None:
        """Take up ``state`` of a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)
