"""Differences that no formula gives, by drawing the rows again and again.

Shape suffixes: R = rows, U = units drawn (rows, or clusters of rows), B = draws in a
block, K = distinct scores that a click has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.paired import Variance
from dlrm.metrics.undefined import UndefinedMetricError

NUM_DRAWS = 500
"""The error of a standard error from so many is 3 %, which Student's t allows for."""
_ENTRIES_PER_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class SortedScores:
    """One model's rows in falling order of score, for average precision of any draw.

    ``order`` [R'] are row numbers; ``ends`` [K] are the places in it after the last
    row of each score that a click has. Rows below the lowest such score are left out:
    they stand in no precision that counts.
    """

    order: np.ndarray
    ends: np.ndarray
    clicks: np.ndarray
    """Places in ``order`` of the clicks."""
    click_ends: np.ndarray
    """[K]: as ``ends``, among the clicks."""

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray) -> SortedScores:
        """Sort once; bool [R] and floats [R] without NaN."""
        order = np.argsort(-scores, kind="stable")
        ranked, is_click = scores[order], labels[order]
        last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
        ends = np.flatnonzero(last_of_tie) + 1
        found = np.cumsum(is_click)[ends - 1]
        has_click = np.diff(found, prepend=0) > 0
        ends = ends[has_click]
        if len(ends) == 0:
            raise UndefinedMetricError("one class")
        kept = order[: ends[-1]]
        return cls(kept, ends, np.flatnonzero(is_click[: ends[-1]]), found[has_click])

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return that of each draw, [B], of weights [B, R]; NaN where no click counts.

        As ``ranking.pr_auc`` defines it: the sum over distinct scores of recall gained
        times precision.
        """
        ranked = weights[:, self.order]
        clicks = np.cumsum(ranked[:, self.clicks], axis=1)[:, self.click_ends - 1]
        shown = np.cumsum(ranked, axis=1)[:, self.ends - 1]
        gained = np.diff(clicks, axis=1, prepend=0.0)
        # Nothing shown means nothing gained: any divisor will do.
        precision = clicks / np.where(shown > 0, shown, 1.0)
        total = clicks[:, -1]
        sums = np.einsum("bk,bk->b", gained, precision)
        return sums / np.where(total > 0, total, np.nan)


def poisson_draws(
    num_units: int, *, num_draws: int, seed: int, entries: int
) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn, uint8 [B, U], until there are ``num_draws``.

    A bootstrap of n units counts each about Poisson(1) times, independently of the
    others where n is large (Chamandy et al. 2012), so that a draw needs no second look
    at the rows. Counts come from a table of 65,536 entries whose mean is exactly 1.
    A block holds about ``entries`` numbers, at least one draw.
    """
    random = np.random.default_rng(seed)
    size = max(1, entries // max(num_units, 1))
    for start in range(0, num_draws, size):
        shape = (min(size, num_draws - start), num_units)
        yield _POISSON[random.integers(0, 1 << 16, size=shape, dtype=np.uint16)]


def _poisson_table() -> np.ndarray:
    entries = 1 << 16
    counts = [round(entries / (math.e * math.factorial(k))) for k in range(9)]
    # What rounding lost goes to 0 and 1, so that entries and mean are exact.
    counts[1] += entries - sum(k * number for k, number in enumerate(counts))
    counts[0] = entries - sum(counts[1:])
    return np.repeat(np.arange(9, dtype=np.uint8), counts)


_POISSON = _poisson_table()


@dataclass(frozen=True, slots=True)
class BootstrapRows:
    """The rows of a test set, and what is drawn of them."""

    labels: np.ndarray
    """bool [R]"""
    weights: np.ndarray | None = None
    """float64 [R]; 1 where None."""
    codes: np.ndarray | None = None
    """int64 [R], clusters from 0 without gaps; rows are drawn alone where None."""
    num_draws: int = NUM_DRAWS
    seed: int = 0

    @property
    def num_units(self) -> int:
        """The number of rows or clusters that are drawn."""
        return len(self.labels) if self.codes is None else int(self.codes.max()) + 1

    def draws(self) -> Iterator[np.ndarray]:
        """Yield the weights of all rows in each draw, float64 [B, R]."""
        # Beside a block stand a few of its kind: in bytes it is some 100 MB of them all
        # up to a million rows, and beyond that a few times the rows' own.
        per_unit = len(self.labels) / max(self.num_units, 1)
        for block in poisson_draws(
            self.num_units,
            num_draws=self.num_draws,
            seed=self.seed,
            entries=int(_ENTRIES_PER_BLOCK / per_unit),
        ):
            of_rows = block if self.codes is None else block[:, self.codes]
            if self.weights is None:
                yield of_rows.astype(np.float64)
            else:
                yield of_rows * self.weights


def bootstrap_variances(
    rows: BootstrapRows,
    *,
    log_loss_gains: np.ndarray | None,
    candidate: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
) -> dict[str, Variance]:
    """Return the variances of two differences over draws: of one set of draws.

    ``pr_auc``: the mean average precision of the candidate's scores less that of the
    baseline's; each model's rows are sorted once, and only weights change.
    ``normalized_entropy``: sum(w gain) / sum(w) over the entropy of the draw's click
    rate, where ``log_loss_gains`` are there.

    A variance of n units from B draws has about (1 / (n - 1) + 1 / (B - 1))^-1 degrees
    of freedom: both numbers make it unsure. Draws without both classes are left out.

    Raises:
        UndefinedMetricError: One class, fewer than two units, or nearly no draw with
            both classes.
    """
    if rows.num_units < 2:
        raise UndefinedMetricError("fewer than two rows or groups")
    mine, theirs = (
        [SortedScores.of(rows.labels, scores) for scores in model]
        for model in (candidate, baseline)
    )
    found: dict[str, list[np.ndarray]] = {"pr_auc": [], "normalized_entropy": []}
    is_click = rows.labels.astype(np.float64)
    for weights_BR in rows.draws():
        found["pr_auc"].append(
            np.mean([m.average_precision(weights_BR) for m in mine], axis=0)
            - np.mean([m.average_precision(weights_BR) for m in theirs], axis=0)
        )
        if log_loss_gains is not None:
            found["normalized_entropy"].append(
                _entropy_differences(weights_BR, log_loss_gains, is_click)
            )
    return {
        name: _variance(np.concatenate(parts), rows.num_units)
        for name, parts in found.items()
        if parts
    }


def _entropy_differences(
    weights_BR: np.ndarray, gains: np.ndarray, is_click: np.ndarray
) -> np.ndarray:
    total, clicks = weights_BR.sum(axis=1), weights_BR @ is_click
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = clicks / total
        entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
        return np.where(entropy > 0, weights_BR @ gains / total / entropy, np.nan)


def _variance(differences: np.ndarray, num_units: int) -> Variance:
    counted = differences[np.isfinite(differences)]
    if len(counted) < 0.9 * len(differences) or len(counted) < 2:
        raise UndefinedMetricError("too few clicks to draw rows anew")
    value = float(counted.var(ddof=1)) * num_units / (num_units - 1)
    if value == 0.0:
        return Variance()
    return Variance(value, 1.0 / (1.0 / (num_units - 1) + 1.0 / (len(counted) - 1)))
