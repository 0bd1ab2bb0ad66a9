"""A hash of all that shapes a prepared dataset: raw rows and settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from dlrm.config.data import DataConfig
from dlrm.config.schema import FORMAT_VERSION

_SHAPES_NOTHING = (
    "prepared", "source", "all_clicks", "negative_keep_rate", "sampled_splits",
    "checks", "num_workers", "memory_gib",
)  # fmt: skip
_MODEL_OPTIONS = ("embedding_dim", "pooling")


def fingerprint_of(data: DataConfig, identity: dict[str, Any]) -> str:
    """Return 64 hex digits that change with the source's identity or a setting.

    Paths, widths and pooling are left out: they change how a dataset is found or used,
    not what it holds. The order of features counts, as it is the order of columns.
    """
    settings = dataclasses.asdict(data)
    for key in _SHAPES_NOTHING:
        del settings[key]
    if settings["keep_rate_column"] is None:
        # Datasets from before there was the setting keep their name.
        del settings["keep_rate_column"]
    for feature in settings["sparse_features"].values():
        for key in _MODEL_OPTIONS:
            del feature[key]
    content = {"format": FORMAT_VERSION, "source": identity, "data": settings}
    text = json.dumps(content, default=lambda member: member.value)
    return hashlib.sha256(text.encode()).hexdigest()
