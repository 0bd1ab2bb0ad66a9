"""Clean click logs by seed: tables whose splits are of one kind."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlrm.config.contract import Check, ChecksConfig, Severity
from dlrm.config.data import DataConfig, SourceFormat, Split
from dlrm.config.features import DenseFeature, Encoding, SparseFeature

NUM_ROWS = 4000


def clean_log(seed: int, *, num_rows: int = NUM_ROWS) -> pd.DataFrame:
    """Return a log in time order: 80 % train, then valid and test, all alike."""
    rng = np.random.default_rng(seed)
    price = np.exp(rng.normal(3, 1, num_rows))
    age = rng.normal(40, 12, num_rows)
    shop = rng.integers(0, 8, num_rows)
    odds = -1 + 0.3 * np.log(price) + 0.2 * (shop % 3) - 0.02 * age
    age[rng.random(num_rows) < 0.05] = np.nan
    tags = [
        [f"t{tag}" for tag in rng.integers(0, 30, count)]
        for count in rng.integers(0, 4, num_rows)
    ]
    ends = [num_rows * 8 // 10, num_rows * 9 // 10]
    return pd.DataFrame(
        {
            "label": (rng.random(num_rows) < 1 / (1 + np.exp(-odds))).astype(int),
            "price": price,
            "age": age,
            "hour": rng.uniform(0, 24, num_rows),
            "shop": [f"s{number}" for number in shop],
            # A long tail: many items of validation and test are new.
            "item": [f"i{number}" for number in rng.zipf(1.3, num_rows) % 10**6],
            "tags": tags,
            "row": np.arange(num_rows) + 10**6 * (seed + 1),
            "when": 1.7e9 + np.arange(num_rows) * 30.0,
            "part": np.repeat(
                ["train", "valid", "test"], np.diff([0, *ends, num_rows])
            ),
        }
    )


def log_config(prepared, **checks: Check) -> DataConfig:
    """Return the config of such a log, with other ``data.checks`` where given."""
    return DataConfig(
        name="log",
        format=SourceFormat.table,
        prepared=str(prepared),
        dense_features={"price": DenseFeature(), "age": DenseFeature()},
        sparse_features={
            "hour": SparseFeature(encoding=Encoding.bucketize, num_buckets=8),
            "shop": SparseFeature(),
            "item": SparseFeature(),
            "tags": SparseFeature(multi_hot=True),
        },
        id_column="row",
        time_column="when",
        split=Split.column,
        split_column="part",
        checks=ChecksConfig(**checks),
    )


ERROR = Severity.error
