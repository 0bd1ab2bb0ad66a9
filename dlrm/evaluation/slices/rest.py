"""A slice's AUC against that of all other rows. Shape suffix: R = rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm.evaluation.slices.measures import EvaluatedRows
from dlrm.metrics.rows import Rows
from dlrm.metrics.score_table import tabulate_scores


@dataclass(frozen=True, slots=True)
class AgainstRest:
    """The AUC of the other rows, and how far the slice's lies from it."""

    auc_rest: float
    z: float
    """(slice - rest) / standard error; below 0 the slice is ranked worse."""

    @property
    def p(self) -> float:
        """The chance of a ``z`` so low, were the slice ranked as well as the rest."""
        return math.erfc(-self.z / math.sqrt(2.0)) / 2


class RestAuc:
    """Knows where each row stands among all; a slice then costs its own rows alone."""

    def __init__(self, rows: EvaluatedRows, standard_error: float) -> None:
        """Place all rows; ``standard_error`` is that of their AUC, which has a value.

        It says how far the rest's AUC could be off: its clicks and its others count as
        the whole's do, but are fewer.
        """
        weights = np.asarray(rows.weights, dtype=np.float64)
        counted = weights > 0
        scores = np.asarray(rows.logits)
        labels = np.asarray(rows.labels) == 1
        kept = Rows(labels[counted], scores[counted], weights[counted])
        table = tabulate_scores(kept)
        place = np.searchsorted(table.scores, scores.astype(np.float64))
        place = np.minimum(place, len(table.scores) - 1)
        below = np.cumsum(table.negatives) - 0.5 * table.negatives
        not_above = np.cumsum(table.positives) - 0.5 * table.positives
        self._positives = float(table.positives.sum())
        self._negatives = float(table.negatives.sum())
        # A click wins against the others below it, another row against clicks above.
        self._clicks = np.where(labels, weights, 0.0)
        self._others = np.where(labels, 0.0, weights)
        self._wins = np.where(labels, below[place], self._positives - not_above[place])
        self._all = float(np.sum(self._clicks * self._wins))
        self._split_error(standard_error)

    def _split_error(self, standard_error: float) -> None:
        """Part the AUC's variance into that over clicks and that over other rows."""
        auc = self._all / (self._positives * self._negatives)
        of_clicks = self._wins / self._negatives - auc
        of_others = self._wins / self._positives - auc
        first = float(np.sum((self._clicks * of_clicks) ** 2)) / self._positives**2
        second = float(np.sum((self._others * of_others) ** 2)) / self._negatives**2
        # With groups the error is that of groups: the parts keep their proportion.
        scale = standard_error**2 / (first + second) if first + second else 0.0
        self._variances = first * scale, second * scale

    def against(
        self, chosen: np.ndarray, auc: float, standard_error: float
    ) -> AgainstRest | None:
        """Compare the slice of the row numbers ``chosen`` with all other rows.

        Returns None where the rest has one class. Slice and rest share no row, and are
        taken as independent.
        """
        clicks, others = self._clicks[chosen], self._others[chosen]
        wins = self._wins[chosen]
        positives, negatives = float(clicks.sum()), float(others.sum())
        rest_positives = self._positives - positives
        rest_negatives = self._negatives - negatives
        if min(rest_positives, rest_negatives) <= 1e-9 * self._positives:
            return None
        # Pairs of the rest: all, less those with a row of the slice on either side;
        # pairs within the slice were then taken off twice.
        within = auc * positives * negatives
        pairs = self._all - float(np.sum(clicks * wins)) - float(np.sum(others * wins))
        rest = (pairs + within) / (rest_positives * rest_negatives)
        variance = standard_error**2
        variance += self._variances[0] * self._positives / rest_positives
        variance += self._variances[1] * self._negatives / rest_negatives
        if variance <= 0:
            return None
        return AgainstRest(rest, (auc - rest) / math.sqrt(variance))
