"""Rows drawn from a split, and how they are judged. Shape suffix: R = rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.errors import ConfigError
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.feature_values import take_rows
from dlrm.data.storage.rows import EncodedRows
from dlrm.evaluation.calibrated import Correction
from dlrm.evaluation.kept_rows import kept_rows
from dlrm.evaluation.predictions import Predictions
from dlrm.evaluation.true_rate import is_sampled
from dlrm.run import Run


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a split, drawn without replacement, all of a weight above 0."""

    rows: EncodedRows
    row_ids: np.ndarray
    """int64 [R], rising: the rows' places in the split."""
    side: pa.Table
    """What the correction needs of them, and the group column."""
    correction: Correction
    sampled: bool
    """Whether the split's non-clicks were thinned."""
    split_rows: int
    """Rows of the whole split."""
    group_column: str | None = None

    def judged(self, logits: np.ndarray) -> Predictions:
        """Return the model's own logits [R] as they are judged, with true weights."""
        found = Predictions(
            np.arange(len(self.rows)), logits, self.rows.labels, self.rows.weights
        )
        judged: Predictions = self.correction.apply(
            found, self.side, sampled=self.sampled
        )
        return judged

    @property
    def weights(self) -> np.ndarray | None:
        """What rows count, float32 [R]; None where all count the same."""
        weights = self.judged(np.zeros(len(self.rows), dtype=np.float32)).weights
        return None if (weights == weights[0]).all() else weights

    @property
    def clusters(self) -> np.ndarray | None:
        """One number a group, int64 [R]; None without a group column.

        A row without a group is one of its own.
        """
        if self.group_column is None:
            return None
        values = self.side.column(self.group_column).combine_chunks()
        if not pa.types.is_dictionary(values.type):
            values = pc.dictionary_encode(values)
        codes = pc.fill_null(values.indices, -1).to_numpy(zero_copy_only=False)
        numbers = codes.astype(np.int64)
        alone = np.flatnonzero(numbers < 0)
        numbers[alone] = len(values.dictionary) + np.arange(alone.size)
        return np.asarray(numbers)


def draw_sample(
    run: Run,
    dataset: Dataset,
    split: str,
    *,
    checkpoint: Path,
    num_rows: int,
    seed: int,
) -> Sample:
    """Draw up to ``num_rows`` rows of a split; rows of weight 0 count nowhere.

    Raises:
        ConfigError: There is no such split, or no row drawn has a weight.
        DatasetError: The column of groups or of keep rates was not kept.
        RunError: The run's recalibrator is another checkpoint's.
    """
    data = run.config.data
    row_ids = _draw(dataset, split, num_rows, seed)
    total, rows = dataset.schema.splits[split].num_rows, dataset.split(split)
    chosen = rows.gather(row_ids)
    counted = np.flatnonzero(chosen.weights > 0)
    if counted.size == 0:
        raise ConfigError(
            f"Split '{split}' must have rows whose weight is above 0, but none of the "
            f"{len(chosen):,} rows drawn from it has one. Check data.weight_column."
        )
    if counted.size < len(chosen):
        chosen, row_ids = take_rows(chosen, counted), row_ids[counted]
    group, rate = data.group_column, data.keep_rate_column
    columns = ["__row", *(name for name in (group, rate) if name is not None)]
    side = dataset.side(split, list(dict.fromkeys(columns)))
    return Sample(
        rows=chosen,
        row_ids=row_ids,
        side=kept_rows(side, row_ids),
        correction=Correction.of_run(run.folder, data, checkpoint=checkpoint.name),
        sampled=is_sampled(data, split),
        split_rows=total,
        group_column=group,
    )


def _draw(dataset: Dataset, split: str, num_rows: int, seed: int) -> np.ndarray:
    sizes = {name: found.num_rows for name, found in dataset.schema.splits.items()}
    if not sizes.get(split):
        found = ", ".join(f"{name} ({rows:,} rows)" for name, rows in sizes.items())
        raise ConfigError(
            f"split must name a split with rows, but '{split}' is none: the dataset "
            f"has {found}."
        )
    total = sizes[split]
    if num_rows >= total:
        return np.arange(total)
    random = np.random.default_rng(seed)
    return np.sort(random.choice(total, size=num_rows, replace=False))
