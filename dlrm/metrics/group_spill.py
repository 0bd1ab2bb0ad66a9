"""Metrics within groups of more rows than memory holds: groups dealt to files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dlrm.metrics.group_table import GroupTable, tabulate_groups
from dlrm.metrics.grouped import gauc_of_table
from dlrm.metrics.lists import (
    hit_rate_of_table,
    list_weight,
    mrr_of_table,
    ndcg_of_table,
)
from dlrm.metrics.summary import GROUP_METRIC_NAMES, LIST_LENGTH
from dlrm.metrics.undefined import UndefinedMetricError

_NUM_PARTS = 256
_ROW = np.dtype([("group", "<u8"), ("score", "<f8"), ("weight", "<f8"), ("click", "?")])
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class SpilledGroups:
    """The metrics within groups of ``compute_metrics``, a 256th of the groups at once.

    A group's rows are all in one file, so that means over groups are those of the
    files, weighed by what they speak for. 25 bytes a row on disk.

    A context manager: leaving it removes the files.
    """

    def __init__(self, *, folder: Path | None = None) -> None:
        """Write below ``folder``, without one where the system keeps such files."""
        self._folder = tempfile.TemporaryDirectory(dir=folder, prefix="dlrm-groups-")
        self._num_without = 0
        self._num_nan = self._num_rows = 0

    def __enter__(self) -> SpilledGroups:
        """Return the state itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was written."""
        self._folder.cleanup()

    def update(
        self,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: np.ndarray,
        groups: np.ndarray,
    ) -> None:
        """Add rows, arrays [R]; groups are any uint64 numbers, masked where none."""
        counted = weights > 0
        present = counted & ~np.ma.getmaskarray(groups)
        self._num_rows += int(counted.sum())
        self._num_nan += int(np.isnan(logits[counted]).sum())
        self._num_without += int(counted.sum() - present.sum())
        rows = np.empty(int(present.sum()), dtype=_ROW)
        rows["group"] = np.ma.getdata(groups)[present]
        rows["score"], rows["weight"] = logits[present], weights[present]
        rows["click"] = labels[present] > 0.5
        # The high bits of a product: neighbouring numbers are dealt evenly.
        part_R = (rows["group"] * _GOLDEN) >> np.uint64(56)
        order = np.argsort(part_R.astype(np.uint8), kind="stable")
        ends = np.cumsum(np.bincount(part_R.astype(np.int64), minlength=_NUM_PARTS))
        rows = rows[order]
        for part, (low, high) in enumerate(
            zip(np.append(0, ends[:-1]), ends, strict=True)
        ):
            if low < high:
                with self._file(part).open("ab") as file:
                    # Unlike ``tofile`` it says why it fails.
                    file.write(rows[low:high].view(np.uint8).data)

    def compute(self) -> dict[str, Any]:
        """Return the metrics under their keys of metrics.json, as ``measure`` does."""
        found: dict[str, Any] = dict.fromkeys(GROUP_METRIC_NAMES)
        reason = "no rows"
        if self._num_nan:
            reason = f"{self._num_nan} of {self._num_rows} scores are NaN"
        if self._num_nan or not self._num_rows:
            found["gauc_num_groups"] = 0
            return found | {"undefined": dict.fromkeys(GROUP_METRIC_NAMES, reason)}
        means = _Means()
        for part in range(_NUM_PARTS):
            if self._file(part).exists():
                means.add(np.fromfile(self._file(part), dtype=_ROW))
        found |= means.values()
        found |= {
            "gauc_num_groups": means.num_groups,
            "gauc_num_groups_left_out": means.num_groups_left_out,
            "gauc_num_rows_left_out": means.num_rows_left_out + self._num_without,
        }
        if not means.num_groups:
            reason = "no group with both classes"
            found["undefined"] = dict.fromkeys(GROUP_METRIC_NAMES, reason)
        return found

    def _file(self, part: int) -> Path:
        return Path(self._folder.name) / f"{part:03d}"


class _Means:
    """Sums of each metric times what it speaks for, over the files so far."""

    def __init__(self) -> None:
        self.num_groups = self.num_groups_left_out = self.num_rows_left_out = 0
        self._sums = dict.fromkeys(GROUP_METRIC_NAMES, 0.0)
        self._weights = dict.fromkeys(GROUP_METRIC_NAMES, 0.0)

    def add(self, rows: np.ndarray) -> None:
        weights = rows["weight"]
        table = tabulate_groups(rows["click"], rows["score"], rows["group"], weights)
        # A table of rows that all weigh the same counts them instead.
        scale = float(weights[0]) if np.ptp(weights) == 0 else 1.0
        counts = gauc_of_table(table)
        self.num_groups += counts.num_groups
        self.num_groups_left_out += counts.num_groups_left_out
        self.num_rows_left_out += counts.num_rows_left_out
        for name, (value, weight) in _of_table(table).items():
            self._sums[name] += value * weight * scale
            self._weights[name] += weight * scale

    def values(self) -> dict[str, float | None]:
        return {
            name: self._sums[name] / weight if weight else None
            for name, weight in self._weights.items()
        }


def _of_table(table: GroupTable) -> dict[str, tuple[float, float]]:
    """Return each metric's value and what it speaks for; nothing where undefined."""
    by_rows, by_clicks = gauc_of_table(table), gauc_of_table(table, by="clicks")
    try:
        weight = list_weight(table)
    except UndefinedMetricError:
        return {}
    assert by_rows.value is not None
    assert by_clicks.value is not None
    return {
        "gauc": (by_rows.value, by_rows.weight),
        "gauc_by_clicks": (by_clicks.value, by_clicks.weight),
        "ndcg_at_10": (ndcg_of_table(table, k=LIST_LENGTH), weight),
        "mrr": (mrr_of_table(table), weight),
        "hit_rate_at_10": (hit_rate_of_table(table, k=LIST_LENGTH), weight),
    }
