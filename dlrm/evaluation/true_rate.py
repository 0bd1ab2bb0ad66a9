"""From what a model says of a thinned log to what is true of the whole one.

Where a share r of the non-clicks was kept and every click, the odds of a click are
1 / r times too high, whatever else is known of a row: the true logit is the model's
plus log(r) (He et al. 2014, section 6.3). A kept non-click stands for 1 / r of them. r
may differ between rows, and is that of non-clicks like the row: a click has it too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.errors import DatasetError
from dlrm.data.columns.keep_rates import keep_rates

if TYPE_CHECKING:
    from dlrm.data.storage.dataset import Dataset
    from dlrm.evaluation.predictions import Predictions

LOG_KEEP_RATE = "log_keep_rate"
"""What ``to_true_rate`` is called in the order of a run's corrections."""


def is_sampled(data: DataConfig, split: str) -> bool:
    """Say whether the non-clicks of a split were thinned."""
    return split in (data.sampled_splits or ())


def to_true_rate(
    found: Predictions, data: DataConfig, side: pa.Table, *, sampled: bool
) -> Predictions:
    """Return predictions of the true rate; those given where no rate is set.

    ``side`` holds the kept columns, and a row id is a place in it. Where the rows are
    themselves ``sampled``, non-clicks weigh 1 / rate times as much. ``raw_logits`` are
    then the model's own.

    Raises:
        DatasetError: The column of rates was not kept, or is not as it was prepared.
    """
    rates = _rates_of(data, side)
    if rates is None:
        return found
    rates = np.broadcast_to(rates, side.num_rows)[found.row_ids]
    weights = found.weights
    if sampled:
        heavier = np.where(found.labels > 0, 1.0, 1.0 / rates)
        weights = (weights * heavier).astype(np.float32)
    return dataclasses.replace(
        found,
        logits=found.logits.astype(np.float64) + np.log(rates),
        weights=weights,
        raw_logits=found.logits if found.raw_logits is None else found.raw_logits,
    )


def split_to_true_rate(
    found: Predictions, data: DataConfig, dataset: Dataset, split: str
) -> Predictions:
    """Return ``to_true_rate`` of a split's rows; no more of it is read than needed."""
    if data.keep_rate_key is None:
        return found
    column = data.keep_rate_column
    # Any column tells the number of rows.
    side = dataset.side(split, ["__row"] if column is None else [column])
    return to_true_rate(found, data, side, sampled=is_sampled(data, split))


def _rates_of(data: DataConfig, side: pa.Table) -> np.ndarray | None:
    """Return one rate a row, or one for all, float64; None where none is set."""
    column = data.keep_rate_column
    if column is None:
        rate = data.negative_keep_rate
        return None if rate is None else np.asarray(rate, dtype=np.float64)
    if column not in side.column_names:
        raise DatasetError(
            f"The column {column!r} (data.keep_rate_column) must be kept beside the "
            f"rows, but only these are: {', '.join(side.column_names)}. Prepare the "
            f"data anew."
        )
    found = keep_rates(side[column].combine_chunks(), column)
    if len(found.bad):
        raise DatasetError(
            f"The column {column!r} (data.keep_rate_column) must hold shares in "
            f"(0, 1], but row {found.bad[0]} has none. Prepare the data anew."
        )
    return found.values
