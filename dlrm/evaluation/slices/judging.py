"""Every slice measured and tested, and the worst of them: slices.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dlrm.config.evaluation import EvaluationConfig
from dlrm.evaluation.slices.dimensions import Dimension
from dlrm.evaluation.slices.measures import EvaluatedRows, measure
from dlrm.evaluation.slices.rest import RestAuc
from dlrm.metrics.blocks import two_at_a_time
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.promises import calibration_test, holm, log_loss_test

NUM_WORST = 20
_PROMISES = {"calibration": calibration_test, "log_loss": log_loss_test}


def judge_slices(
    rows: EvaluatedRows,
    dimensions: Sequence[Dimension],
    settings: EvaluationConfig,
) -> dict[str, Any]:
    """Measure every slice of every dimension, test them, and rank the worst.

    Two questions are asked of a slice. Is it as the model's own probabilities promise?
    ``calibration_test`` and ``log_loss_test`` answer, and ``worst`` ranks slices by the
    larger of their abs(z): the standardised excess a row times the root of the
    support. Is it ranked worse than the other rows? ``weak_ranking`` lists that
    separately, since a slice of like rows may be harder by nature and no fault of the
    model. Each list is corrected for all its looks by Holm (1979), at
    ``evaluation.slice_level`` for any false alarm at all.

    Returns, as written to slices.json::

        {"total": SUPPORT,
         "level": 0.05, "correction": "holm", "min_clicks": 30,
         "errors": "rows" | "groups",
         "num_tests": 84, "num_ranking_tests": 40,
         "dimensions": [{
             "key": "device", "kind": "column|bucket|time|activity|crossing",
             "num_values": 5, "edges": [...], "window": "day", "counted": "...",
             "slices": [{"name": "tv", "values": ["tv"],
                         "kind": "value|missing|others", "share": 0.2, **SUPPORT,
                         "auc_rest": 0.71 | null,
                         "tests": {"calibration": TEST, "log_loss": TEST, "auc": TEST},
                         "too_small": null | "12.3 expected clicks, fewer than 30"}]}],
         "worst": [{"rank": 1, "dimension": "device", "slice": "tv",
                    "test": "calibration", "z": -12.1, "excess": -0.02,
                    "p_adjusted": 1e-30, "significant": true, "rows": 10000,
                    "positives": 900, "promised": 1300.0, "calibration": 1.44,
                    "log_loss": 0.31, "sentence": "..."}],
         "weak_ranking": [{"rank": 1, "dimension": ..., "slice": ..., "auc": 0.55,
                    "auc_rest": 0.71, "z": -9.0, "p_adjusted": 1e-18,
                    "significant": true, "rows": ..., "positives": ...}],
         "too_small": [{"dimension": ..., "slice": ..., "rows": 12, "positives": 1,
                        "reason": "..."}]}

    SUPPORT is what ``measure`` returns: ``rows``, ``positives``, ``weight``,
    ``positive_weight``, ``promised``, ``log_loss_sum``, ``metrics``, ``undefined``,
    ``intervals`` and ``standard_errors``; a dimension's slices partition the total's
    sums. TEST is ``{"z": ..., "p": ..., "p_adjusted": ..., "excess": ...}`` (``auc``
    has no ``excess``) or null. Lists of the worst hold 20 at most. Names are as the
    data has them: whoever shows them escapes them.
    """
    total = measure(rows)
    rest = None
    if "auc" in total["standard_errors"]:
        rest = RestAuc(rows, total["standard_errors"]["auc"])
    found = two_at_a_time(
        lambda entry: _dimension(rows, entry, settings, rest), dimensions, len(rows)
    )
    places = [(entry["key"], found) for entry in found for found in entry["slices"]]
    num_tests = _adjust(places, tuple(_PROMISES))
    num_ranking_tests = _adjust(places, ("auc",))
    return {
        "total": total,
        "level": settings.slice_level,
        "correction": "holm",
        "min_clicks": settings.slice_min_clicks,
        "errors": "rows" if rows.groups is None else "groups",
        "num_tests": num_tests,
        "num_ranking_tests": num_ranking_tests,
        "dimensions": found,
        "worst": _worst(places, settings.slice_level),
        "weak_ranking": _weak(places, settings.slice_level),
        "too_small": _too_small(places),
    }


def _dimension(
    rows: EvaluatedRows,
    dimension: Dimension,
    settings: EvaluationConfig,
    rest: RestAuc | None,
) -> dict[str, Any]:
    slices, num_rows = [], len(rows)
    for code, chosen in _row_numbers(dimension):
        name = dimension.names[code]
        found = _slice(rows.take(chosen), chosen, settings, rest)
        slices.append(
            {
                "name": name.text,
                "values": list(name.values),
                "kind": name.kind,
                "share": len(chosen) / num_rows,
                **found,
            }
        )
    assert sum(entry["rows"] for entry in slices) == num_rows, "a row was lost"
    kind = {"key": dimension.key, "kind": dimension.kind}
    return {**kind, **dimension.facts, "slices": slices}


def _row_numbers(dimension: Dimension) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each slice's code and its row numbers, rising."""
    codes = dimension.codes
    order = np.argsort(codes, kind="stable")  # By radix, as they have 16 bits.
    ends = np.cumsum(np.bincount(codes, minlength=len(dimension.names)))
    start = 0
    for code, end in enumerate(ends.tolist()):
        yield code, order[start:end]
        start = end


def _slice(
    rows: EvaluatedRows,
    chosen: np.ndarray,
    settings: EvaluationConfig,
    rest: RestAuc | None,
) -> dict[str, Any]:
    found = measure(rows)
    found["auc_rest"] = None
    found["tests"] = dict.fromkeys((*_PROMISES, "auc"))
    found["too_small"] = _why_too_small(rows, settings.slice_min_clicks)
    if found["too_small"] is not None:
        return found
    for name, test in _PROMISES.items():
        result = test(
            rows.labels,
            rows.logits,
            rows.weights,
            rows.groups,
            sampled=rows.sampled,
        )
        if result is not None:
            found["tests"][name] = {
                "z": result.z,
                "p": result.p,
                "excess": result.excess,
            }
    error = found["standard_errors"].get("auc")
    if rest is not None and error is not None:
        against = rest.against(chosen, found["metrics"]["auc"], error)
        if against is not None:
            found["auc_rest"] = against.auc_rest
            found["tests"]["auc"] = {"z": against.z, "p": against.p}
    return found


def _why_too_small(rows: EvaluatedRows, least: int) -> str | None:
    """Say why nothing can be said of a slice; expectations, as outcomes would select.

    Rows of weight 0 count in nothing.
    """
    counted = rows.weights > 0
    if np.isnan(rows.logits[counted]).any():
        return "predictions are NaN"
    clicks = float(probabilities_from_logits(rows.logits[counted]).sum())
    others = float(np.count_nonzero(counted)) - clicks
    if clicks < least:
        return f"{clicks:.1f} expected clicks, fewer than {least}"
    if others < least:
        return f"{others:.1f} expected rows without a click, fewer than {least}"
    return None


def _adjust(places: list[tuple[str, dict[str, Any]]], names: tuple[str, ...]) -> int:
    """Add ``p_adjusted`` to all tests of these names; return how many there are."""
    tests = [
        found["tests"][name]
        for _, found in places
        for name in names
        if found["tests"][name] is not None
    ]
    for test, adjusted in zip(tests, holm([t["p"] for t in tests]), strict=True):
        test["p_adjusted"] = adjusted
    return len(tests)


def _worst(
    places: list[tuple[str, dict[str, Any]]], level: float
) -> list[dict[str, Any]]:
    entries = []
    for key, found in places:
        tests = {name: found["tests"][name] for name in _PROMISES}
        known = {name: test for name, test in tests.items() if test is not None}
        if not known:
            continue
        name = max(known, key=lambda name: abs(known[name]["z"]))
        entry = {
            **_heading(key, found, known[name], level),
            "test": name,
            "excess": known[name]["excess"],
            "promised": found["promised"],
            "calibration": found["metrics"]["calibration"],
            "log_loss": found["metrics"]["log_loss"],
        }
        entries.append(entry | {"sentence": _sentence(entry, found, level)})
    return _ranked(sorted(entries, key=lambda entry: -abs(entry["z"])))


def _weak(
    places: list[tuple[str, dict[str, Any]]], level: float
) -> list[dict[str, Any]]:
    entries = [
        {
            **_heading(key, found, found["tests"]["auc"], level),
            "auc": found["metrics"]["auc"],
            "auc_rest": found["auc_rest"],
        }
        for key, found in places
        if found["tests"]["auc"] is not None and found["tests"]["auc"]["z"] < 0
    ]
    return _ranked(sorted(entries, key=lambda entry: entry["z"]))


def _heading(
    key: str, found: dict[str, Any], test: dict[str, Any], level: float
) -> dict[str, Any]:
    return {
        "dimension": key,
        "slice": found["name"],
        "z": test["z"],
        "p_adjusted": test["p_adjusted"],
        "significant": test["p_adjusted"] < level,
        "rows": found["rows"],
        "positives": found["positives"],
    }


def _ranked(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"rank": rank, **entry} for rank, entry in enumerate(entries[:NUM_WORST], 1)
    ]


def _sentence(entry: dict[str, Any], found: dict[str, Any], level: float) -> str:
    """Say what is wrong: the number of clicks, or how sure the probabilities are."""
    if not entry["significant"]:
        return "no more off than chance allows among so many slices"
    clicks_off = found["tests"]["calibration"]
    if clicks_off is None or clicks_off["p_adjusted"] >= level:
        side = "over" if entry["excess"] > 0 else "under"
        return (
            f"log loss {abs(entry['excess']):.4f} a row "
            f"{'above' if side == 'over' else 'below'} what its probabilities promise: "
            f"they are {side}confident"
        )
    clicks = found["positive_weight"]
    if not clicks:
        return f"promises {found['promised']:,.0f} clicks, and none came"
    gap = found["promised"] / clicks - 1
    return f"promises {abs(gap):.1%} {'more' if gap > 0 else 'fewer'} clicks than came"


def _too_small(places: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "dimension": key,
            "slice": found["name"],
            "rows": found["rows"],
            "positives": found["positives"],
            "reason": found["too_small"],
        }
        for key, found in places
        if found["too_small"] is not None
    ]
