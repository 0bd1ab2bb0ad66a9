"""The readers under test, one file each."""

from __future__ import annotations

from tests.fuzz.engine import Target
from tests.fuzz.targets import (
    criteo,
    criteo_multi_hot,
    delimited,
    exact,
    fasttext,
    frames,
    headers,
    impressions,
    movielens,
    parquet,
    profiling,
    profiling_parquet,
    synthetic,
    table,
)

_MODULES = (
    delimited,
    exact,
    headers,
    table,
    criteo,
    criteo_multi_hot,
    fasttext,
    movielens,
    parquet,
    frames,
    profiling,
    profiling_parquet,
    synthetic,
    impressions,
)
TARGETS: dict[str, Target] = {module.TARGET.name: module.TARGET for module in _MODULES}
