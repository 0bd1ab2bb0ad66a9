"""The ``launcher`` section: how many processes one command starts."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.checks import require


@dataclass(kw_only=True, slots=True)
class LauncherConfig:
    """Processes of this machine. Under torchrun or Slurm it is left alone."""

    processes: int | None = None
    """Start this many, one a GPU or each on its share of the CPU; none where not
    set."""
    max_restarts: int = 0
    """How often a job whose process died begins anew from its last checkpoint."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        count = self.processes
        sound = count is None or count >= 1
        require(sound, "launcher.processes", ">= 1", count)
        restarts = self.max_restarts
        require(restarts >= 0, "launcher.max_restarts", ">= 0", restarts)
