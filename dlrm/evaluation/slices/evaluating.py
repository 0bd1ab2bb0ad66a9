"""The slices of one evaluation: what slices.json and the terminal say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.evaluation import EvaluationConfig
from dlrm.config.slices import SliceSpec
from dlrm.data.storage.dataset import Dataset
from dlrm.evaluation.kept_rows import kept_rows
from dlrm.evaluation.slices.choosing import RawRows, deal
from dlrm.evaluation.slices.cold_start import UnseenIds, cold_start, unseen_of_split
from dlrm.evaluation.slices.dealing import count_values, encode_values
from dlrm.evaluation.slices.future import FutureRows, future_of_split
from dlrm.evaluation.slices.judging import judge_slices
from dlrm.evaluation.slices.measures import EvaluatedRows
from dlrm.evaluation.true_rate import is_sampled

if TYPE_CHECKING:
    from dlrm.evaluation.predictions import Predictions

NUM_PRINTED = 5
_ROWS_AT_A_TIME = 1 << 22
_NAME_WIDTH = 44


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What is known of evaluated rows beside their predictions and raw columns."""

    sampled: bool = False
    """Whether non-clicks were left out, and weights make up for them."""
    unseen: Sequence[UnseenIds] = ()
    future: FutureRows | None = None
    training_counts: Mapping[str, int] | None = field(default=None, repr=False)
    """Training rows of each group, where those are at hand."""


def surroundings_of_split(
    dataset: Dataset, data: DataConfig, *, split: str, row_ids: np.ndarray
) -> Surroundings:
    """Gather what a prepared dataset knows of one split's rows ``row_ids``, rising.

    Raises:
        DatasetError: There is no such split, or a file is damaged.
    """
    return Surroundings(
        sampled=is_sampled(data, split),
        unseen=unseen_of_split(dataset, split, row_ids),
        future=future_of_split(dataset, data, split=split),
        training_counts=training_counts(dataset, data),
    )


def training_counts(dataset: Dataset, data: DataConfig) -> dict[str, int] | None:
    """Count the training rows of each group, None where there is no group column."""
    column = data.group_column
    if column is None or column not in dataset.schema.kept_columns:
        return None
    batches = dataset.side_batches("train", [column], batch_size=_ROWS_AT_A_TIME)
    return count_values(batch.column(0) for batch in batches)


def slice_evaluation(
    predictions: Predictions,
    side: pa.Table,
    *,
    data: DataConfig,
    settings: EvaluationConfig,
    specs: Sequence[SliceSpec] | None,
    known: Surroundings,
) -> dict[str, Any]:
    """Return the content of slices.json.

    That is what ``judge_slices`` returns, with three entries more: ``skipped``, a list
    of ``{"key": ..., "reason": ...}`` of dimensions that the rows do not allow;
    ``cold_start``, as the function of that name returns it; ``future``, null where rows
    have no time, else as ``FutureRows.record`` returns it: ``split``, ``last_trained``
    and ``first_evaluated`` (epoch seconds), ``num_trained``, ``num_later``, ``leaks``.

    ``specs`` None slices by the kept columns. With a group column, rows of a group are
    not taken as independent.
    """
    kept = kept_rows(side, predictions.row_ids)
    groups = _groups(kept, data.group_column)
    raw = RawRows(kept=kept, data=data, training_counts=known.training_counts)
    dimensions, skipped = deal(specs, raw, num_values=settings.slice_values)
    del kept, raw  # Possibly a copy of all columns.
    # Every slice of sorted rows is sorted, and is not sorted for each of its metrics.
    order = np.argsort(predictions.logits, kind="stable")
    rows = EvaluatedRows(
        predictions.labels,
        predictions.logits,
        predictions.weights,
        groups,
        known.sampled,
    ).take(order)
    dimensions = [replace(entry, codes=entry.codes[order]) for entry in dimensions]
    unseen = [
        entry if entry.unknown else replace(entry, rows=entry.rows[order])
        for entry in known.unseen
    ]
    return {
        **judge_slices(rows, dimensions, settings),
        "skipped": [asdict(entry) for entry in skipped],
        "cold_start": cold_start(rows, unseen),
        "future": None if known.future is None else known.future.record(),
    }


def _groups(kept: pa.Table, column: str | None) -> np.ndarray | None:
    if column is None or column not in kept.column_names:
        return None
    codes, texts = encode_values(kept.column(column))
    empty = np.array([text == "" for text in texts], dtype=bool)
    return np.ma.array(codes, mask=empty[codes])


def describe_slices(found: dict[str, Any]) -> list[str]:
    """Return slices.json as lines for a terminal: the worst, new ids, the future."""
    lines = [*_worst_lines(found), *_cold_lines(found["cold_start"])]
    lines += [
        f"Not sliced by {printable(entry['key'])}: {entry['reason']}."
        for entry in found["skipped"]
    ]
    if found["future"] is not None and found["future"]["leaks"]:
        future = FutureRows.of_record(found["future"])
        lines.append(f"Not a forecast: {future.describe()}.")
    return lines


def _worst_lines(found: dict[str, Any]) -> list[str]:
    if not found["num_tests"]:
        return []
    bad = [entry for entry in found["worst"] if entry["significant"]]
    looks = f"{found['num_tests']:,} looks, Holm at {found['level']:.0%}"
    if not bad:
        return [f"No slice is worse than chance allows ({looks})."]
    lines = [f"Worst slices ({looks}):"]
    for entry in bad[:NUM_PRINTED]:
        name = printable(f"{entry['dimension']} = {entry['slice']}")
        lines.append(
            f"  {name:<{_NAME_WIDTH}} {entry['rows']:>10,} rows  z {entry['z']:>6.1f}  "
            f"{entry['sentence']}"
        )
    return lines


def _cold_lines(found: dict[str, Any]) -> list[str]:
    whole = found["any"]
    if whole is None or not whole["unseen"]["rows"]:
        return []
    seen, unseen = whole["seen"], whole["unseen"]
    share = unseen["rows"] / (seen["rows"] + unseen["rows"])
    shown = [
        "undefined" if auc is None else f"{auc:.5f}"
        for auc in (unseen["metrics"]["auc"], seen["metrics"]["auc"])
    ]
    return [
        f"Rows with an id training never saw: {unseen['rows']:,} ({share:.2%}), "
        f"AUC {shown[0]}; the others {shown[1]}"
    ]


def printable(text: str) -> str:
    """Return text from strangers fit for a line of a terminal: no control characters.

    Escape sequences in a raw value could otherwise rewrite the screen.
    """
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return shown if len(shown) <= _NAME_WIDTH else f"{shown[: _NAME_WIDTH - 3]}..."
