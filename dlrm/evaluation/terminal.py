"""Metrics as a table for a terminal, and the words that a report uses for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MetricWords:
    """How a metric is called and what a reader should hold against it."""

    name: str
    title: str
    meaning: str


METRIC_WORDS = (
    MetricWords("auc", "AUC", "0.5 is a coin, 1 ranks every click first"),
    MetricWords("gauc", "Grouped AUC", "the same within each group, by impressions"),
    MetricWords("pr_auc", "PR AUC", "average precision; a constant: click rate"),
    MetricWords("log_loss", "Log loss", "in nats, lower is better"),
    MetricWords(
        "normalized_entropy",
        "Normalized entropy",
        "1 knows no more than the click rate",
    ),
    MetricWords("brier", "Brier score", "mean squared error, lower is better"),
    MetricWords("calibration", "Calibration", "promised clicks / clicks, 1 at best"),
    MetricWords("ece", "ECE", "calibration error in 20 bins, 0 at best"),
    MetricWords("ece_debiased", "ECE, debiased", "the same, squared, less chance"),
    MetricWords("raw_calibration", "Raw calibration", "of the model's own logits"),
    MetricWords("raw_ece", "Raw ECE", "of the model's own logits"),
    MetricWords("raw_log_loss", "Raw log loss", "of the model's own logits"),
    MetricWords("accuracy", "Accuracy", "at 0.5; a constant has 1 - click rate"),
    MetricWords("top_decile_capture", "Top decile", "of clicks; a constant: 0.1"),
    MetricWords("ndcg_at_10", "NDCG at 10", "each group's list, 1 at best"),
)
"""What a terminal shows, and a page first."""

MORE_METRIC_WORDS = (
    MetricWords("gauc_by_clicks", "Grouped AUC, clicks", "weighted by clicks"),
    MetricWords("mrr", "MRR", "1 / place of a group's first click"),
    MetricWords("hit_rate_at_10", "Hit rate at 10", "groups with a click in the 10"),
    MetricWords("rig", "RIG", "share of the entropy explained, 1 at best"),
    MetricWords("lift_top_decile", "Lift, top decile", "click rate there over all"),
    MetricWords("ece_equal_width", "ECE, equal width", "in 20 bins of width 0.05"),
    MetricWords("brier_reliability", "Brier: reliability", "adds to it; 0 at best"),
    MetricWords("brier_resolution", "Brier: resolution", "takes off; a constant: 0"),
    MetricWords("brier_uncertainty", "Brier: uncertainty", "adds rate (1 - rate)"),
    MetricWords("brier_within_bin", "Brier: within bins", "adds what bins hide"),
    MetricWords("precision_at_0_5", "Precision", "at 0.5; clicks among the called"),
    MetricWords("recall_at_0_5", "Recall", "at 0.5; clicks that are called"),
    MetricWords("f1_at_0_5", "F1", "at 0.5; harmonic mean of the two"),
)
"""What only a page has room for."""


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Return the content of metrics.json as an aligned table, no newline at its end."""
    clicks, examples = metrics["num_positives"], metrics["num_examples"]
    share = f"   {clicks / examples:.2%} of them" if examples else ""
    lines = [
        f"{'Examples':<20}{examples:>12,}",
        f"{'Clicks':<20}{clicks:>12,}{share}",
    ]
    undefined = metrics.get("undefined", {})
    for words in METRIC_WORDS:
        if words.name in metrics:
            value = format_value(metrics[words.name])
            note = undefined.get(words.name, words.meaning)
            lines.append(f"{words.title:<20}{value:>12}   {note}")
    return "\n".join(lines + _group_lines(metrics) + _bayes_lines(metrics))


def format_value(value: float | None) -> str:
    """Return five decimals, or ``undefined``."""
    return "undefined" if value is None else f"{value:.5f}"


def _group_lines(metrics: Mapping[str, Any]) -> list[str]:
    if "gauc_num_groups" not in metrics:
        return []
    left_out = metrics.get("gauc_num_groups_left_out", 0)
    note = f"   {left_out:,} more have one class only"
    return [f"{'Groups used':<20}{metrics['gauc_num_groups']:>12,}{note}"]


def _bayes_lines(metrics: Mapping[str, Any]) -> list[str]:
    bayes = metrics.get("bayes")
    if bayes is None:
        return []
    lines = []
    for name, title in (("auc", "Bayes AUC"), ("log_loss", "Bayes log loss")):
        value, note = format_value(bayes[name]), bayes_note(name, bayes)
        lines.append(f"{title:<20}{value:>12}   {note}")
    for name, title in (("capped_auc", "AUC cap"), ("capped_log_loss", "Log loss cap")):
        if name in bayes:
            value = format_value(bayes[name])
            lines.append(f"{title:<20}{value:>12}   what rare ids leave to be learned")
    return lines


def bayes_note(name: str, bayes: Mapping[str, Any]) -> str:
    """Say how close the model came to the best possible value of a metric."""
    if name == "auc" and bayes["auc_share"] is not None:
        return (
            f"the model went {bayes['auc_share']:.1%} of the way from 0.5 to the best"
        )
    if name == "log_loss" and bayes["log_loss_ratio"] is not None:
        excess = bayes["log_loss_ratio"] - 1
        side = "above" if excess >= 0 else "below"
        return f"the model is {abs(excess):.1%} {side} the best possible"
    return "the best any model could have"
