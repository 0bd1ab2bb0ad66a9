"""How close a model came to the best possible one, where that is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlrm.metrics.likelihood import log_loss_from_probabilities
from dlrm.metrics.ranking import auc
from dlrm.metrics.undefined import UndefinedMetricError

BAYES_COLUMN = "bayes_probability"
"""Kept raw column with the true click probability of the row, as generated."""

CAPPED_COLUMN = "capped_probability"
"""Kept raw column with the best guess of one who knows all but what rare ids hide."""


def compare_with_bayes(
    labels: np.ndarray,
    bayes_probabilities: np.ndarray,
    weights: np.ndarray,
    metrics: dict[str, Any],
    capped_probabilities: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the best possible AUC and log loss on the rows, and the model's share.

    No model can rank or predict better in expectation than the true probabilities. So
    ``auc_share`` is the way gone from 0.5 to the Bayes AUC, (auc - 0.5) / (bayes -
    0.5), and ``log_loss_ratio`` is the model's log loss over the Bayes one, 1 at best.
    With ``capped_probabilities``, ``capped_auc`` and ``capped_log_loss`` are what rare
    ids leave to be learned. A value that is undefined is None.
    """
    found = {**_limit(labels, bayes_probabilities, weights)}
    found |= {"auc_share": None, "log_loss_ratio": None}
    if metrics["auc"] is not None and found["auc"] not in (None, 0.5):
        found["auc_share"] = (metrics["auc"] - 0.5) / (found["auc"] - 0.5)
    if metrics["log_loss"] is not None and found["log_loss"]:
        found["log_loss_ratio"] = metrics["log_loss"] / found["log_loss"]
    if capped_probabilities is not None:
        capped = _limit(labels, capped_probabilities, weights)
        found |= {f"capped_{name}": value for name, value in capped.items()}
    return found


def _limit(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Return AUC and log loss of known probabilities, None where undefined."""
    found: dict[str, Any] = {"auc": None, "log_loss": None}
    try:
        loss = log_loss_from_probabilities(labels, probabilities, weights)
        found["log_loss"] = loss.log_loss
        found["auc"] = auc(labels, probabilities, weights)
    except UndefinedMetricError:
        # One class leaves the log loss; NaN or missing probabilities leave nothing.
        pass
    return found
