"""A comparison in the sentences that an analyst would sign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SIGNIFICANCE = 0.05


def verdict(result: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """Return what is known of one candidate against the baseline, best known first.

    ``result`` is the whole content of comparison.json, ``entry`` one of its
    ``comparisons``. A difference counts where its p-value, adjusted for the number of
    candidates, is below 5 %.
    """
    names = entry["candidate"], result["baseline"]
    found = entry["differences"]
    sentences = []
    if "auc" in found:
        sentences.append(_ranking(*names, found["auc"]))
    if "log_loss" in found:
        sentences.append(_probabilities(*names, found["log_loss"], found.get("auc")))
    if not sentences:
        reasons = ", ".join(dict.fromkeys(entry["undefined"].values()))
        sentences.append(f"{names[0]} cannot be compared on these rows: {reasons}.")
        return sentences
    detectable = found.get("auc", {}).get("detectable")
    if detectable is not None:
        sentences.append(
            f"With these {result['num_examples']:,} rows "
            f"({result['num_positives']:,} clicks) a true difference in AUC of "
            f"{format_difference(detectable, found['auc'], signed=False)} would be "
            f"found four times in five; smaller ones are easily missed."
        )
    sentences.append(_seeds(result, entry))
    sentences.append(_rows(result))
    if len(result["comparisons"]) > 1:
        sentences.append(
            f"{len(result['comparisons'])} candidates were tried: p-values behind "
            f"these words are Holm's."
        )
    return sentences


def is_significant(difference: Mapping[str, Any]) -> bool:
    """Say whether chance alone would seldom make such a difference."""
    return bool(difference.get("p_adjusted", 1.0) < SIGNIFICANCE)


def is_identical(difference: Mapping[str, Any]) -> bool:
    """Say whether the models do not differ at all."""
    return bool(difference["difference"] == 0.0 and difference["standard_error"] == 0.0)


def format_difference(
    value: float, difference: Mapping[str, Any], *, signed: bool = True
) -> str:
    """Return a number with two digits of its standard error, at least four decimals."""
    error = difference.get("standard_error") or 0.0
    digits = 5 if error == 0.0 else max(4, 1 - math.floor(math.log10(error)))
    text = f"{value:+.{min(digits, 9)}f}" if signed else f"{value:.{min(digits, 9)}f}"
    # Nothing is below zero by nothing.
    return text.replace("-", "+", 1) if float(text) == 0.0 and signed else text


def format_interval(difference: Mapping[str, Any]) -> str:
    """Return the two ends of a 95 % interval."""
    low, high = (format_difference(difference[e], difference) for e in ("low", "high"))
    return f"{low} to {high}"


def format_p(p_value: float) -> str:
    """Return a p-value with as many digits as it is worth."""
    if p_value < 0.0001:
        return "p < 0.0001"
    return f"p = {p_value:.2f}" if p_value >= 0.1 else f"p = {p_value:.2g}"


def _evidence(difference: Mapping[str, Any]) -> str:
    return (
        f"{format_difference(difference['difference'], difference)}, 95 % interval "
        f"{format_interval(difference)}, {format_p(difference['p_adjusted'])}"
    )


def _ranking(candidate: str, baseline: str, auc: Mapping[str, Any]) -> str:
    if is_identical(auc):
        return f"{candidate} and {baseline} rank these rows exactly alike."
    values = f"AUC {auc['candidate']:.4f} against {auc['baseline']:.4f}"
    if not is_significant(auc):
        return (
            f"No difference in ranking between {candidate} and {baseline} can be told "
            f"from chance: {values} ({_evidence(auc)})."
        )
    word = "better" if auc["difference"] > 0 else "worse"
    return f"{candidate} ranks {word} than {baseline}: {values} ({_evidence(auc)})."


def _probabilities(
    candidate: str,
    baseline: str,
    loss: Mapping[str, Any],
    auc: Mapping[str, Any] | None,
) -> str:
    if is_identical(loss):
        return f"{candidate} and {baseline} promise exactly the same."
    values = f"log loss {loss['candidate']:.4f} against {loss['baseline']:.4f}"
    if not is_significant(loss):
        return (
            f"Whose probabilities are better cannot be told from chance: {values} "
            f"({_evidence(loss)})."
        )
    better = loss["difference"] < 0
    word = "better" if better else "worse"
    split = auc is not None and is_significant(auc)
    opposed = split and auc is not None and (auc["difference"] > 0) != better
    start = "Yet its" if opposed else "Its"
    return f"{start} probabilities are {word}: {values} ({_evidence(loss)})."


def _seeds(result: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    counts = {model["name"]: len(model["paths"]) for model in result["models"]}
    mine, theirs = counts[entry["candidate"]], counts[result["baseline"]]
    if mine == theirs == 1:
        return (
            "Each model is one training run: how much another seed would move it is "
            "not in these intervals."
        )
    text = f"Intervals carry the test rows and the seeds, {mine} against {theirs}"
    if 1 in (mine, theirs):
        return f"{text}; of a single one nothing is known."
    return f"{text}."


def _rows(result: Mapping[str, Any]) -> str:
    if result["group"] is not None:
        return (
            f"Rows of one {result['group']} may be correlated: its "
            f"{result['num_groups']:,} values are what is taken as independent."
        )
    return (
        "Rows are taken as independent: if users have several each, name their column "
        "by group=."
    )
