"""The ``calibration`` section: what makes a run's probabilities right on average."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CalibrationMethod(Enum):
    """How logits are mapped once a model is trained; all but ``none`` are fitted."""

    none = "none"
    platt = "platt"
    """A slope above 0 and an intercept."""
    isotonic = "isotonic"
    """Any map that does not fall; it may make different logits equal."""
    temperature = "temperature"
    """A slope above 0 alone."""
    beta = "beta"
    """A slope at either end and an intercept."""


@dataclass(kw_only=True, slots=True)
class CalibrationConfig:
    """What ``dlrm train`` fits at its end, as ``dlrm calibrate`` does at any time."""

    method: CalibrationMethod = CalibrationMethod.none
    """Fitted on the validation split with the best checkpoint, of clicks alone."""
