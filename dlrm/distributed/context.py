"""Which process of the job this is, as launchers tell it through the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dlrm.config.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """Rank and number of processes, in torchrun's variables."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls) -> ProcessContext:
        """Read RANK, LOCAL_RANK and WORLD_SIZE; one process where they are not set.

        Raises:
            ConfigError: One of them is no whole number.
        """
        return cls(
            rank=_number("RANK", default=0),
            local_rank=_number("LOCAL_RANK", default=0),
            world_size=_number("WORLD_SIZE", default=1),
        )


def _number(name: str, *, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not text.isdigit():
        raise ConfigError(
            f"The environment variable {name} must be a whole number, but it is "
            f"'{text}'. Launchers such as torchrun set it; unset it without one."
        )
    return int(text) if text else default
