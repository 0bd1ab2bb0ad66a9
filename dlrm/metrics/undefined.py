"""What a metric raises where its definition gives no number."""

from __future__ import annotations


class UndefinedMetricError(ValueError):
    """The metric has no value on these rows; the message is the reason, a few words.

    A reader of a report must never take a placeholder for a result: an AUC of rows of
    one class is not 0.5, and a log loss of NaN logits is not NaN in a JSON file.
    """
