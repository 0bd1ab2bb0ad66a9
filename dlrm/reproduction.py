"""Two runs beside each other: what differed before they began, and in what they gave.

``dlrm train reproduce=RUN`` repeats a run and compares the two to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.strangers import parse_json
from dlrm.run import Run

COMPARED = (
    "data_fingerprint", "data_checksum", "config_checksum", "code", "seed", "packages",
    "python", "platform", "git_revision", "source_checksum", "device", "device_name",
    "cpu_capability", "num_threads", "world_size", "native_kernels", "environment",
)  # fmt: skip
"""Entries of a manifest that may change a run's bits, the likeliest causes first."""
_UNKNOWN = "not recorded"
_OF_TIME = ("per_second", "seconds", "time")
"""Parts of the names of logged values that no two runs share."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What is not the same in two runs."""

    causes: tuple[str, ...]
    """Of the manifests."""
    differing: tuple[str, ...]
    """Of the results: checkpoints, metrics, predictions."""
    num_compared: int

    @property
    def is_identical(self) -> bool:
        """Say whether all results are, to the bit."""
        return not self.differing and self.num_compared > 0


def compare_manifests(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each entry that differs: its name, then and now."""
    for name in COMPARED:
        if name in new or name in old:
            yield from _compare(name, old.get(name, _UNKNOWN), new.get(name, _UNKNOWN))


def compare_runs(old: Run, new: Run) -> Reproduction:
    """Compare what two runs left: every checkpoint and evaluation that both have.

    Raises:
        RunError: A manifest is damaged.
    """
    causes = tuple(compare_manifests(old.manifest(), new.manifest()))
    differing: list[str] = []
    names = _results(old.folder) | _results(new.folder)
    for name in sorted(names):
        reason = _difference(old.folder / name, new.folder / name)
        if reason is not None:
            differing.append(f"{name}: {reason}")
    return Reproduction(causes, tuple(differing), len(names))


def _compare(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _compare(
                f"{name}.{key}", old.get(key, "unset"), new.get(key, "unset")
            )
    elif old != new:
        yield f"{name}: {_short(old)} then, {_short(new)} now"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:12] if is_hash else text


def _results(folder: Path) -> set[str]:
    """Return the names of all files that a run's training determines."""
    found = [
        *folder.glob("checkpoints/step_*/**/*"),
        folder / "checkpoints" / "best.json",
        folder / "metrics.jsonl",
        folder / "calibration.json",
        *folder.glob("evaluation/*/metrics.json"),
        *folder.glob("evaluation/*/predictions.parquet"),
    ]
    return {path.relative_to(folder).as_posix() for path in found if path.is_file()}


def _difference(old: Path, new: Path) -> str | None:
    """Say how two files differ; None where they hold the same."""
    if not (old.is_file() and new.is_file()):
        return "only the first run has it" if old.is_file() else "only the new run has"
    if old.read_bytes() == new.read_bytes():
        return None
    match old.name:
        case "metrics.jsonl":
            return _logged(old, new)
        case "predictions.parquet":
            return _predicted(old, new)
        case _:
            return "other bytes"


def _logged(old: Path, new: Path) -> str | None:
    records = [[_timeless(line) for line in _lines(path)] for path in (old, new)]
    if records[0] == records[1]:
        return None
    for one, other in zip(*records, strict=False):
        if one != other:
            return f"first at step {one.get('step')}"
    return f"{len(records[0]):,} records then, {len(records[1]):,} now"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = parse_json(line)
        except ValueError:
            continue  # Half written when the run was killed.
        if isinstance(record, dict):
            yield record


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if not any(part in name for part in _OF_TIME)
    }


def _predicted(old: Path, new: Path) -> str | None:
    """Compare values: the same ones may be packed otherwise by another version."""
    one, other = (_plain(pq.read_table(path)) for path in (old, new))
    if one.equals(other):
        return None
    if one.column_names != other.column_names or len(one) != len(other):
        return "other rows or columns"
    names = [n for n in one.column_names if not one[n].equals(other[n])]
    return f"other {', '.join(names)}" if names else None


def _plain(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None)
