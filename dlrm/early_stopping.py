"""Which evaluation was the best, and when to stop waiting for a better one."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.errors import TrainingError
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
