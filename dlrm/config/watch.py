"""The ``watch`` section: how long a process may stay in one place."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.checks import require

_POSITIVE = (
    "step",
    "data",
    "evaluate",
    "metrics",
    "save",
    "start",
    "prepare",
    "end",
    "silence",
    "give_up",
)


@dataclass(kw_only=True, slots=True)
class WatchConfig:
    """Seconds without a move after which a process is named on all others.

    A phase that is null has no limit.
    """

    enabled: bool = True
    """Without it a process that hangs is not named, and one that fails or dies leaves
    the others waiting for their collectives to give up."""
    step: float | None = 10.0
    """A training step."""
    data: float | None = 10.0
    """Waiting for the next batch."""
    evaluate: float | None = 60.0
    """A batch of an evaluation."""
    metrics: float | None = 3600.0
    """The metrics and report of an evaluation."""
    save: float | None = 300.0
    """Writing or reading one file of a checkpoint."""
    start: float | None = 300.0
    """Building the model, or meeting the other processes."""
    prepare: float | None = None
    """Preparing the data, which the first process does while the others wait."""
    end: float | None = 300.0
    """Closing files and leaving."""
    silence: float = 30.0
    """No sign of life from a process at all, whatever its phase: it was stopped, or
    its machine hangs."""
    give_up: float = 600.0
    """The job ends where a named process has not moved for this long, so that a
    launcher may start it anew."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        for name in _POSITIVE:
            seconds = getattr(self, name)
            sound = seconds is None or seconds > 0
            require(sound, f"watch.{name}", "above 0", seconds)
