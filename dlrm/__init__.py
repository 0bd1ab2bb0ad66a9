"""Train click-through-rate models at any scale from one configuration.

The verbs of the command line are functions here: ``dlrm.prepare``, ``dlrm.train``,
``dlrm.evaluate`` and ``dlrm.predict``.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_VERBS = ("prepare", "train", "resume", "evaluate", "predict")


def __getattr__(name: str) -> Any:
    """Import a verb when it is first used, so that ``import dlrm`` stays quick."""
    if name not in _VERBS:
        raise AttributeError(f"module 'dlrm' has no attribute '{name}'")
    place = "train" if name == "resume" else name
    return getattr(importlib.import_module(f"dlrm.commands.{place}"), name)
