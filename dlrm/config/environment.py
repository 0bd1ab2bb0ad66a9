"""Every environment variable that is read outside ``dlrm/distributed/context.py``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables, typed. MLflow and Weights & Biases read their own."""

    full_error: bool = False
    """``DLRM_FULL_ERROR``: show the traceback of a user's error."""
    real_data: Path | None = None
    """``DLRM_REAL_DATA``: folder of public data sets, for the tests that need them."""
    no_color: bool = False
    """``NO_COLOR``: plain text on a terminal (no-color.org: any value but empty)."""


def read_environment() -> Environment:
    """Read the variables as they are now."""
    real_data = os.environ.get("DLRM_REAL_DATA")
    return Environment(
        full_error=os.environ.get("DLRM_FULL_ERROR", "").lower() not in _FALSE,
        real_data=Path(real_data) if real_data else None,
        no_color=bool(os.environ.get("NO_COLOR")),
    )
