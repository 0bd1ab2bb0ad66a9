"""The exact AUC of many scores, beside scikit-learn's in the same rounds."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from dlrm.bench.pairs import interleave, speed_ratio
from dlrm.metrics.ranking import auc

_CLICK_RATE = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Rows whose AUC is timed, [R] each."""

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None = None


def auc_cases(num_rows: int) -> dict[str, Case]:
    """Return the kinds of scores that sort differently, from one draw of rows."""
    random = np.random.default_rng(0)
    labels = random.random(num_rows) < _CLICK_RATE
    wide = random.normal(size=num_rows) + labels - 3.0
    logits = wide.astype(np.float32)
    probabilities = 1 / (1 + np.exp(-logits))
    weights = random.exponential(size=num_rows).astype(np.float32)
    return {
        "float32 logits": Case(labels, logits),
        "float32 probabilities": Case(labels, probabilities),
        "rounded to 0.001": Case(labels, probabilities.round(3)),
        "float64 logits": Case(labels, wide),
        "weighted": Case(labels, logits, weights),
    }


def bench_auc(
    *, num_rows: int, num_rounds: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """Time each case in interleaved rounds and return figures for the table.

    Without scikit-learn there are the seconds alone.
    """
    cases = {}
    for name, case in auc_cases(num_rows).items():
        report(f"{name} ...")
        cases[name] = _measure(case, num_rounds)
    return {"rows": num_rows, "rounds": num_rounds, "cases": cases}


def _measure(case: Case, num_rounds: int) -> dict[str, Any]:
    values: dict[str, float] = {}

    def ours() -> None:
        values["dlrm"] = auc(case.labels, case.scores, case.weights)

    contestants = {"dlrm": ours}
    if importlib.util.find_spec("sklearn") is not None:
        from sklearn.metrics import roc_auc_score

        def theirs() -> None:
            values["scikit-learn"] = float(
                roc_auc_score(case.labels, case.scores, sample_weight=case.weights)
            )

        contestants["scikit-learn"] = theirs
    seconds = interleave(contestants, num_rounds=num_rounds)
    found: dict[str, Any] = {
        "auc": values["dlrm"],
        "seconds": {name: float(np.median(each)) for name, each in seconds.items()},
    }
    if "scikit-learn" in seconds:
        ratio = speed_ratio(seconds["dlrm"], seconds["scikit-learn"])
        found["times_as_fast"] = dataclasses.asdict(ratio)
        found["difference"] = values["dlrm"] - values["scikit-learn"]
    return found


def format_auc(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    lines = [f"AUC of {figures['rows']:,} scores, {figures['rounds']} rounds"]
    for name, found in figures["cases"].items():
        line = f"{name:<22} {found['seconds']['dlrm']:>8.3f} s"
        if "times_as_fast" in found:
            ratio = found["times_as_fast"]
            interval = f"[{ratio['low']:.1f}, {ratio['high']:.1f}]"
            line += (
                f"  scikit-learn {found['seconds']['scikit-learn']:>8.3f} s"
                f"  {ratio['median']:.1f} times as fast, 95 % interval {interval}"
                f"  difference {found['difference']:.1e}"
            )
        lines.append(line)
    if not any("times_as_fast" in found for found in figures["cases"].values()):
        lines.append("scikit-learn is not installed, so there is nothing beside these.")
    return "\n".join(lines)
