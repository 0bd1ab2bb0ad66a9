"""What the label column holds."""

from __future__ import annotations

from enum import Enum


class LabelKind(Enum):
    """What is known of each row."""

    click = "click"
    """0 or 1."""
    multiclass = "multiclass"
    """One class, as text or number."""
    multilabel = "multilabel"
    """Any number of classes: a list, or text that ``label_delimiter`` cuts."""
