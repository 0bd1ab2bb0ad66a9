"""The kinds of findings in words; thresholds and severities are ``config/contract``'s.

A new kind is an entry here, a field there, and what measures it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What is measured, and what to do about a finding."""

    measure: str
    """Completes "must have at most 0.2 of"."""
    advice: str


KINDS = {
    "missing_column": Kind(
        "feature columns missing", "Give the rows the column that training had."
    ),
    "extra_column": Kind(
        "columns that training did not have",
        "Check that this is the same table; the model does not read the column.",
    ),
    "column_type": Kind(
        "columns of another kind", "Write the column as the training files have it."
    ),
    "out_of_range": Kind(
        "values beyond the training range, as a share",
        "Check the column's unit, or set clip_min and clip_max and train anew.",
    ),
    "new_categories": Kind(
        "unexpected new ids, as a share",
        "Check how the column is written, or train on newer rows.",
    ),
    "dense_drift": Kind(
        "drift (population stability index)",
        "Check the column's unit and where it comes from, or train on newer rows.",
    ),
    "categorical_drift": Kind(
        "drift (population stability index)",
        "Check where the rows come from, or train on rows like these.",
    ),
    "label_shift": Kind(
        "shift of the click rate's log-odds",
        "Check data.label and how rows were sampled; calibrate if it is real.",
    ),
    "missing_share": Kind(
        "change of the share of missing values",
        "Check what fills the column.",
    ),
    "duplicate_rows": Kind(
        "rows that training has too, as a share",
        "Remove doubled rows, or split so that they stay together: a metric on "
        "rows that were trained on is too good.",
    ),
    "duplicate_ids": Kind(
        "ids that training has too, as a share",
        "Give each row an id of its own, or keep rows of one id in one split.",
    ),
    "constant_feature": Kind(
        "features with one value", "Leave it out, or check what fills the column."
    ),
    "label_leak": Kind(
        "AUC by itself",
        "It tells the label: leave it out, or make sure that it is known before the "
        "click.",
    ),
    "time_overlap": Kind(
        "rows older than the newest training row, as a share",
        "Split by time (data.split=time), or take newer rows: a model must not be "
        "judged on what it could have seen.",
    ),
    "time_order": Kind(
        "rows older than the row before, as a share", "Sort the rows by time."
    ),
}
