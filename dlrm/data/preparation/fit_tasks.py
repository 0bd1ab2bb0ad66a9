"""What is learned column by column from the training rows, vocabularies apart.

A task goes through all blocks in order, so that its result is the one of a single
process to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.preparation.blocks import BlockStore, BlockWriter
from dlrm.data.preparation.spill import SpilledBlock
from dlrm.data.preparation.splits import TRAIN
from dlrm.data.transforms.dense_columns import Moments, before_standardizing
from dlrm.data.transforms.fitted import flat_texts
from dlrm.data.transforms.fitting import DistinctValues, fit_boundaries
from dlrm.data.transforms.quantiles import QuantileSample


@dataclass(frozen=True, kw_only=True, slots=True)
class FitTask:
    """A task that reads some columns of all training rows."""

    store: BlockStore
    name: str
    blocks: tuple[SpilledBlock, ...]
    codes: Path
    """File of the rows' split codes."""

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say that a fit holds: whatever would change it starts the work anew."""
        del result
        return True

    def training_rows(self) -> Iterator[tuple[SpilledBlock, np.ndarray]]:
        """Yield each block that has training rows, and which they are."""
        for block in self.blocks:
            is_train = block.codes(self.codes) == TRAIN
            if is_train.any():
                yield block, is_train


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentsTask(FitTask):
    """Mean and variance of a dense feature."""

    feature: str
    options: DenseFeature

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Return the moments' fields."""
        del out
        moments = Moments()
        for block, is_train in self.training_rows():
            values = block.column(f"dense:{self.feature}").to_numpy()[is_train]
            moments.add(before_standardizing(values, self.options))
        return dataclasses.asdict(moments)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundariesTask(FitTask):
    """Bucket boundaries of a table."""

    features: dict[str, SparseFeature]

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Return the boundaries."""
        del out
        sample = QuantileSample()
        first = next(iter(self.features.values()))
        if first.boundaries is None:
            for block, is_train in self.training_rows():
                for name in self.features:
                    sample.add(block.column(f"sparse:{name}").to_numpy()[is_train])
        return {"boundaries": fit_boundaries(first, sample)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DistinctTask(FitTask):
    """How many values a feature has, where no vocabulary counts them."""

    feature: str

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Return their number, null where they are too many to be listed."""
        del out
        distinct = DistinctValues()
        for block, is_train in self.training_rows():
            texts, lengths = flat_texts(block.column(f"sparse:{self.feature}"))
            is_counted = is_train if lengths is None else np.repeat(is_train, lengths)
            distinct.add(texts, is_counted)
            if distinct.count is None:
                break
        return {"num_values": distinct.count}


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelsTask(FitTask):
    """The labels that occur in rows with weight."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Return them."""
        del out
        labels: set[float] = set()
        for block, is_train in self.training_rows():
            if "weight" in block.names():
                is_train = is_train & (block.column("weight").to_numpy() > 0)
            found = block.column("label").to_numpy()[is_train]
            labels.update(np.unique(found).tolist())
        return {"labels": sorted(labels)}
