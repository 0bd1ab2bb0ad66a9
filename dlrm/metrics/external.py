"""Metrics of more rows than memory holds: sorted in parts on disk, then merged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dlrm.metrics.score_table import ScoreTable
from dlrm.metrics.spill import TableSpill
from dlrm.metrics.streamed import StreamedMetrics
from dlrm.metrics.summary import METRIC_NAMES
from dlrm.metrics.tabulated import Tabulated, tabulate
from dlrm.metrics.undefined import UndefinedMetricError

LEAST_MEMORY = 1 << 24
_BYTES_PER_ROW = 192
"""What sorting a part and adding up its ties takes at its height."""


@dataclass(slots=True)
class _Counts:
    """What ``Tabulated`` counts, over all parts so far."""

    examples: int = 0
    positives: int = 0
    counted: int = 0
    nan: int = 0

    def add(self, part: Tabulated) -> None:
        self.examples += part.num_examples
        self.positives += part.num_positives
        self.counted += part.num_counted
        self.nan += part.num_nan

    def why_undefined(self) -> str | None:
        if self.nan:
            return f"{self.nan} of {self.counted} scores are NaN"
        return None if self.counted else "no rows"


class SpilledMetricState:
    """The numbers of ``MetricState`` in bounded memory, but none within groups.

    Rows are sorted and their ties added up in parts. The sorted parts go to a temporary
    folder, with 12 bytes a distinct float32 logit, 16 where weighted, 32 at most, and
    are merged from there in blocks. Nothing is rounded and no bins stand in for scores:
    the values are those of ``compute_metrics`` of all rows at once, to the rounding of
    sums in float64.

    A context manager: leaving it removes the folder.
    """

    def __init__(self, *, memory_bytes: int, folder: Path | None = None) -> None:
        """Hold at most about ``memory_bytes``, and write below ``folder``.

        The caller's own arrays come on top. Without ``folder`` it is the system's place
        for temporary files, which may itself be in memory.

        Raises:
            ValueError: ``memory_bytes`` is less than 16 MiB.
        """
        if memory_bytes < LEAST_MEMORY:
            raise ValueError(
                f"memory_bytes must be at least {LEAST_MEMORY} (16 MiB), but it is "
                f"{memory_bytes}. Sorting in parts and merging takes some room."
            )
        self._folder = tempfile.TemporaryDirectory(dir=folder, prefix="dlrm-metrics-")
        self._spill = TableSpill(Path(self._folder.name), memory_bytes=memory_bytes)
        self._rows_per_part = memory_bytes // _BYTES_PER_ROW
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._num_waiting = 0
        self._counts = _Counts()
        self._clicks = self._others = 0.0

    def __enter__(self) -> SpilledMetricState:
        """Return the state itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was written."""
        self._waiting.clear()
        self._folder.cleanup()

    def update(
        self,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        """Add rows; arrays [R], any number of them. Weights are 1 where not given.

        Raises:
            ValueError: Lengths differ; or, when the part they wait for is full, a label
                is not 0 or 1 or a weight negative or not finite.
        """
        columns = [np.asarray(labels), np.asarray(logits)]
        if weights is not None:
            columns.append(np.asarray(weights))
        if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
            raise ValueError(
                "Labels, logits and weights must be one number a row, but their shapes "
                f"are {', '.join(str(column.shape) for column in columns)}."
            )
        start, num_rows = 0, len(columns[0])
        while start < num_rows:
            end = min(start + self._rows_per_part - self._num_waiting, num_rows)
            # Copied: a view would keep the caller's whole array.
            self._waiting.append(tuple(column[start:end].copy() for column in columns))
            self._num_waiting += end - start
            if self._num_waiting == self._rows_per_part:
                self._spill_waiting()
            start = end

    def _spill_waiting(self) -> None:
        """Sort what waits, and write it."""
        weighted = any(len(columns) == 3 for columns in self._waiting)
        labels = np.concatenate([columns[0] for columns in self._waiting])
        logits = np.concatenate([columns[1] for columns in self._waiting])
        weights = None
        if weighted:
            weights = np.concatenate([_weights(columns) for columns in self._waiting])
        self._waiting.clear()
        self._num_waiting = 0
        part = tabulate(labels, logits, weights)
        self._counts.add(part)
        if part.scores is not None:
            table = _in_own_weights(part.scores, part.scale)
            self._clicks += float(table.positives.sum())
            self._others += float(table.negatives.sum())
            self._spill.add(table)

    def compute(self) -> dict[str, Any]:
        """Return the metrics of all rows so far; see ``compute_metrics``."""
        if self._num_waiting:
            self._spill_waiting()
        found: dict[str, Any] = {
            "num_examples": self._counts.examples,
            "num_positives": self._counts.positives,
        }
        reason = self._counts.why_undefined()
        if reason is not None:
            found |= dict.fromkeys(METRIC_NAMES)
            return found | {"undefined": dict.fromkeys(METRIC_NAMES, reason)}
        streamed = StreamedMetrics(clicks=self._clicks, others=self._others)
        for table in self._spill.merged():
            streamed.add(table)
        undefined: dict[str, str] = {}
        for name, compute in streamed.definitions().items():
            try:
                found[name] = compute()
            except UndefinedMetricError as error:
                found[name], undefined[name] = None, str(error)
        return found | ({"undefined": undefined} if undefined else {})


def compute_metrics_of_parts(
    parts: Iterable[tuple[np.ndarray, ...]],
    *,
    memory_bytes: int,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Return the metrics of rows that come as (labels, logits[, weights]), [R] each.

    No two parts are held at once. See ``SpilledMetricState``.
    """
    with SpilledMetricState(memory_bytes=memory_bytes, folder=folder) as state:
        for part in parts:
            state.update(*part)
        return state.compute()


def _weights(columns: tuple[np.ndarray, ...]) -> np.ndarray:
    if len(columns) == 3:
        return columns[2]
    return np.ones(len(columns[0]), dtype=np.float32)


def _in_own_weights(table: ScoreTable, scale: float) -> ScoreTable:
    """Undo the scale of parts whose rows all weigh the same, which are merged."""
    if scale == 1:
        return table
    return ScoreTable(
        table.scores,
        table.positives * scale,
        table.negatives * scale,
        table.sums_of_squares() * scale**2,
    )
