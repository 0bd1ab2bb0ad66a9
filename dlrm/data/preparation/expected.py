"""What is known of a dataset without preparing it: its schema, its bags' lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.expected_schema import expected_schema
from dlrm.config.schema import FeatureSchema
from dlrm.data.preparation.fingerprint import fingerprint_of
from dlrm.data.preparation.publishing import is_whole
from dlrm.data.sources import open_source
from dlrm.data.sources.criteo_multi_hot import BAG_SIZES
from dlrm.data.storage.dataset import Dataset

ASSUMED_LENGTH = 10.0
"""Ids of a bag where nothing is known of them."""
_SAMPLED_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A schema, and the mean number of ids of each multi-hot feature's bags."""

    schema: FeatureSchema
    average_lengths: dict[str, float] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    """Features whose bags are taken to have ``ASSUMED_LENGTH`` ids."""
    folder: Path | None = None
    """The prepared dataset that this was read from; None where config alone says it."""


def expect_dataset(data: DataConfig) -> Expected:
    """Look at the prepared dataset where there is one, else at the config.

    Raises:
        ConfigError: There is none, and the config does not say how large a table is.
    """
    folder = find_dataset(data)
    if folder is None:
        return _of_config(data, expected_schema(data))
    dataset = Dataset.open(folder, verify=False)
    return Expected(
        schema=dataset.schema, average_lengths=mean_bag_lengths(dataset), folder=folder
    )


def find_dataset(data: DataConfig) -> Path | None:
    """Return the folder of the prepared dataset; None where there is none yet."""
    if not Path(data.prepared).is_dir():
        return None
    try:
        fingerprint = fingerprint_of(data, open_source(data).identity())
    except (ConfigError, DataError):
        return None  # Without its raw files nobody can tell whose dataset it is.
    folder = Path(data.prepared) / f"{data.name}-{fingerprint[:12]}"
    return folder if is_whole(folder) else None


def mean_bag_lengths(dataset: Dataset) -> dict[str, float]:
    """Return the mean lengths of the training rows' bags, of an even sample."""
    schema, rows = dataset.schema, dataset.split("train")
    if not schema.multi_hot or not rows.num_rows:
        return {}
    count = min(rows.num_rows, _SAMPLED_ROWS)
    picked = np.linspace(0, rows.num_rows - 1, count).astype(np.int64)
    means = rows.gather(picked).bag_lengths.mean(axis=0)
    return {f.name: float(m) for f, m in zip(schema.multi_hot, means, strict=False)}


def _of_config(data: DataConfig, schema: FeatureSchema) -> Expected:
    lengths: dict[str, float] = {}
    assumed = []
    drawn = data.criteo is not None and data.criteo.multi_hot
    for feature in schema.multi_hot:
        column = feature.feature.column or feature.name
        if drawn and column[1:].isdigit() and 1 <= int(column[1:]) <= len(BAG_SIZES):
            lengths[feature.name] = float(BAG_SIZES[int(column[1:]) - 1])
        elif feature.feature.max_length is not None:
            lengths[feature.name] = float(feature.feature.max_length)
        else:
            lengths[feature.name] = ASSUMED_LENGTH
            assumed.append(feature.name)
    return Expected(schema=schema, average_lengths=lengths, assumed=tuple(assumed))
