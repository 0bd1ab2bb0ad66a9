"""Train click-through-rate models at any scale from one configuration.

The verbs of the command line are functions here: ``dlrm.prepare``, ``dlrm.train``,
``dlrm.evaluate``, ``dlrm.calibrate``, ``dlrm.compare``, ``dlrm.predict``,
``dlrm.nearest`` and ``dlrm.table_vectors``; ``dlrm.importance``,
``dlrm.embedding_health`` and ``dlrm.explain_row`` are those of ``dlrm explain``.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "resume": "train",
    "nearest": "embeddings",
    "table_vectors": "embeddings",
    "importance": "explain",
    "embedding_health": "explain",
    "explain_row": "explain",
}
"""Modules of verbs that are not called as their command is."""
_VERBS = ("prepare", "train", "evaluate", "calibrate", "compare", "predict", *_PLACES)


def __getattr__(name: str) -> Any:
    """Import a verb when it is first used, so that ``import dlrm`` stays quick."""
    if name not in _VERBS:
        raise AttributeError(f"module 'dlrm' has no attribute '{name}'")
    place = importlib.import_module(f"dlrm.commands.{_PLACES.get(name, name)}")
    return getattr(place, name)
