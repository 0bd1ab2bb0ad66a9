"""Dense features: missing, clip, log1p, standardize, in this order, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm.config.features import DenseFeature, Missing
from dlrm.config.schema import FittedDense


def before_standardizing(values: np.ndarray, feature: DenseFeature) -> np.ndarray:
    """Fill zeros, clip and log1p; NaN stays where the training mean will stand.

    ``values`` are finite or NaN. They are returned as they are where nothing is done.
    """
    if feature.missing is Missing.zero:
        values = np.where(np.isnan(values), 0.0, values)
    if feature.clip_min is not None or feature.clip_max is not None:
        values = np.clip(values, feature.clip_min, feature.clip_max)
    if feature.log1p:
        sizes = np.abs(values)
        np.log1p(sizes, out=sizes)
        values = np.copysign(sizes, values, out=sizes)
    return values


def write_dense_columns(
    values: np.ndarray, fitted: FittedDense, out: np.ndarray
) -> None:
    """Write float32 [1, R], or [2, R] with the indicator of missing values."""
    feature = fitted.feature
    filled = before_standardizing(values, feature)
    if feature.missing is not Missing.zero:
        filled = np.where(np.isnan(filled), fitted.mean, filled)
    if feature.standardize:
        filled = filled - fitted.mean
        filled /= fitted.std
    # What is too large for float32 becomes infinite, and is refused by name later.
    with np.errstate(over="ignore"):
        out[0] = filled
    if feature.missing_indicator:
        out[1] = np.isnan(values)


@dataclass(slots=True)
class Moments:
    """Mean and variance of a stream, after Chan, Golub and LeVeque (1979)."""

    num_values: int = 0
    """Values present; missing ones that get the mean change no sum."""
    num_rows: int = 0
    mean: float = 0.0
    sum_of_squares: float = 0.0
    """Of the deviations from the mean."""
    origin: float = 0.0
    """The first value. Differences to it lose no digits, and are 0 if all are equal."""

    def add(self, values: np.ndarray) -> None:
        """Take in some rows, NaN where missing."""
        self.num_rows += values.size
        present = values[~np.isnan(values)]
        if present.size == 0:
            return
        if self.num_values == 0:
            self.origin = float(present[0])
        # Beyond 1e154 squares overflow: the fit refuses what is not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            shifted = present - self.origin
            mean = float(shifted.mean())
            squares = float(np.square(shifted - mean).sum())
            total = self.num_values + present.size
            delta = mean - self.mean
            self.sum_of_squares += squares
            self.sum_of_squares += (
                delta * delta * self.num_values * present.size / total
            )
            self.mean += delta * present.size / total
            self.num_values = total

    def fit(self, name: str, feature: DenseFeature) -> FittedDense:
        """Return the feature's statistics; a deviation of 0 counts as 1."""
        variance = self.sum_of_squares / max(self.num_rows, 1)
        std = math.sqrt(variance) if variance != 0 else 1.0
        return FittedDense(
            name=name, feature=feature, mean=self.origin + self.mean, std=std
        )
