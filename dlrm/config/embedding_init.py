"""How embedding tables start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dlrm.config.checks import require


class InitName(Enum):
    """The distribution of initial embedding values."""

    uniform = "uniform"
    """Uniform in [-scale, scale)."""
    normal = "normal"
    """Normal with mean 0 and standard deviation ``scale``."""
    constant = "constant"
    """Every value ``scale``."""


@dataclass(kw_only=True, slots=True)
class EmbeddingInit:
    """Initial embedding values: a function of (seed, table, row key, column)."""

    name: InitName = InitName.uniform
    scale: float | None = None
    """For ``uniform``, 1 / sqrt(rows of the table) where not set (Naumov et al. 2019's
    code); required for ``normal`` and ``constant``."""

    def check(self, key: str) -> None:
        """Check that a scale is there; ``key`` is this section's key as typed."""
        known = self.scale is not None or self.name is InitName.uniform
        wanted = f"set for {self.name.value}"
        require(known, f"{key}.scale", wanted, self.scale)
