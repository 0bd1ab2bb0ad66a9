"""Click evaluations of more rows than memory should hold: written as rows are scored.

The metrics are those of an evaluation in memory, to the rounding of sums. Left out are
what looks at all rows again: intervals, slices, the Bayes-optimal rates of a generated
log, and reliability before and after a correction.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlrm.data.transforms.outside_ids import OutsideIds
from dlrm.evaluation.click_report import click_page
from dlrm.evaluation.clicks import ClickJudge
from dlrm.evaluation.evaluation import (
    METRICS_FILE,
    OUTSIDE_FILE,
    PREDICTIONS_FILE,
    predictions_table,
    write_findings,
    write_json,
    write_page,
)
from dlrm.evaluation.logit_bins import LogitBins
from dlrm.evaluation.predictions import Predictions
from dlrm.evaluation.replace import replacing_folder
from dlrm.evaluation.report import ReportContext
from dlrm.metrics.external import SpilledMetricState
from dlrm.metrics.group_spill import SpilledGroups

_MEMORY_BYTES = 1 << 28
_RAW = ("calibration", "ece", "log_loss")


class ScoredPart(Protocol):
    """Predictions of neighbouring rows, and their raw columns."""

    @property
    def predictions(self) -> Predictions:
        """What the model says."""
        ...

    @property
    def side(self) -> pa.Table:
        """The raw columns, row-aligned."""
        ...


class LargeClicks(ExitStack):
    """Metrics of clicks of any number of rows, in a bounded part of memory.

    Leaving it, as a context manager, removes what it holds on disk.
    """

    def __init__(self, folder: Path) -> None:
        """Write below ``folder``."""
        super().__init__()
        self._folder = folder
        self._all = self._state()
        self._raw: SpilledMetricState | None = None
        self._groups: SpilledGroups | None = None
        self.bins = LogitBins()

    def _state(self) -> SpilledMetricState:
        state = SpilledMetricState(memory_bytes=_MEMORY_BYTES, folder=self._folder)
        return self.enter_context(state)

    def add(self, found: Predictions, groups: np.ndarray | None) -> None:
        """Add rows; ``groups`` are uint64 numbers, masked where a row has none."""
        labels, weights = found.labels, found.weights
        self._all.update(labels, found.logits, weights)
        self.bins.add(labels, found.logits, weights)
        if found.raw_logits is not None:
            self._raw = self._raw or self._state()
            self._raw.update(labels, found.raw_logits, weights)
        if groups is not None:
            if self._groups is None:
                self._groups = self.enter_context(SpilledGroups(folder=self._folder))
            self._groups.update(labels, found.logits, weights, groups)

    def metrics(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        found = self._all.compute()
        undefined = found.pop("undefined", {})
        if self._groups is not None:
            found |= self._groups.compute()
            undefined |= found.pop("undefined", {})
        if self._raw is not None:
            raw = self._raw.compute()
            found |= {f"raw_{name}": raw[name] for name in _RAW}
        return found | ({"undefined": undefined} if undefined else {})


def write_large_evaluation(
    folder: Path,
    parts: Iterable[ScoredPart],
    *,
    group_column: str | None,
    context: ReportContext,
    outside: OutsideIds | None = None,
) -> dict[str, Any]:
    """Measure and write rows part by part, replace ``folder``, return the metrics.

    The report's charts are drawn from ``LogitBins``.

    Raises:
        RunError: The files cannot be written.
    """
    judge = ClickJudge()
    with replacing_folder(folder) as aside, ExitStack() as stack:
        totals = stack.enter_context(LargeClicks(aside))
        writer: pq.ParquetWriter | None = None
        for part in parts:
            found = part.predictions
            groups = None
            if group_column is not None and group_column in part.side.column_names:
                groups = group_numbers(part.side.column(group_column))
            totals.add(found, groups)
            table = plain(predictions_table(judge.predictions(found), part.side))
            if writer is None:
                target = aside / PREDICTIONS_FILE
                writer = stack.enter_context(pq.ParquetWriter(target, table.schema))
            writer.write_table(table.cast(writer.schema))
        metrics = totals.metrics()
        write_json(aside / METRICS_FILE, metrics)
        labels, logits, weights = totals.bins.rows()
        page = click_page(
            metrics, labels=labels, logits=logits, weights=weights, context=context
        )
        write_page(aside, page)
        write_findings(aside, context)
        if outside is not None:
            write_json(aside / OUTSIDE_FILE, outside.record())
        stack.close()
    return metrics


def group_numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Return a 64-bit number for each value's text, masked where it is missing.

    Hashed, so that parts need no common dictionary; of a hundred million groups two
    share a number with a chance of 0.03 %.
    """
    from pandas.util import hash_array

    codes = pc.dictionary_encode(plain(pa.table({"group": values}))["group"])
    codes = codes.combine_chunks()
    if isinstance(codes, pa.ChunkedArray):
        codes = pa.concat_arrays(codes.chunks)
    names = pc.cast(codes.dictionary, pa.string()).to_numpy(zero_copy_only=False)
    numbers = hash_array(names.astype(object), categorize=False)
    missing = pc.is_null(codes).to_numpy(zero_copy_only=False)
    places = pc.fill_null(codes.indices, 0).to_numpy(zero_copy_only=False)
    found = numbers[places] if len(numbers) else np.zeros(len(places), dtype=np.uint64)
    return np.ma.array(found, mask=missing)


def plain(table: pa.Table) -> pa.Table:
    """Return the table without dictionaries, which differ from part to part."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(place).cast(field.type.value_type)
            table = table.set_column(place, field.name, column)
    return table
