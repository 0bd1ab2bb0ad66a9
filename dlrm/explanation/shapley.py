"""One row's logit, told as what each feature adds to the mean logit of other rows.

Shape suffixes: N = background rows, F = features, W = mixed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.data.storage.feature_values import FeaturePlace, take_rows, with_values_of
from dlrm.data.storage.rows import EncodedRows, concatenate_rows
from dlrm.explanation.scorer import Scorer

_ROWS_AT_ONCE = 32_768


@dataclass(frozen=True, slots=True)
class Contributions:
    """A logit in parts: ``mean_logit + values.sum()`` is ``logit``."""

    logit: float
    mean_logit: float
    """Of the background rows."""
    values: np.ndarray
    """float64 [F]: what each feature adds."""
    standard_errors: np.ndarray
    """float64 [F]: over other background rows and orders."""


def explain_row(
    scorer: Scorer,
    places: Sequence[FeaturePlace],
    row: EncodedRows,
    background: EncodedRows,
    *,
    seed: int,
) -> Contributions:
    """Return the Shapley values of a row's features against background rows.

    The game gives a set S of features the mean logit of the background rows with the
    row's own values in S ("interventional": Janzing, Minorics and Bloebaum 2020). A
    feature's Shapley value is what it adds, averaged over all orders in which features
    can take on the row's values. They are the only values that always sum to logit -
    mean logit (efficiency), treat features that do the same alike, give 0 to one that
    does nothing, and add up over sums of models (Shapley 1953).

    The average over orders is estimated by walks (Castro, Gomez and Tejada 2009): each
    background row becomes the row, feature by feature, in an order drawn at random, and
    again in the reverse order (Mitchell et al. 2022). Each walk's steps sum to its
    whole way, so that efficiency holds exactly and not on average alone.

    Args:
        scorer: Gives logits.
        places: All features.
        row: One row.
        background: N rows, at least 2.
        seed: Of the orders.
    """
    num_rows, num_features = len(background), len(places)
    joined = concatenate_rows([background, row])
    ends = scorer.logits(joined).astype(np.float64)
    starts, logit = ends[:-1], float(ends[-1])
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(num_features) for _ in range(num_rows)])
    added = np.zeros((num_rows, num_features))
    for walked in (orders, orders[:, ::-1]):
        on_the_way = _walk(scorer, places, joined, walked)
        whole = np.column_stack([starts, on_the_way, np.full(num_rows, logit)])
        np.put_along_axis(
            added,
            walked,
            np.take_along_axis(added, walked, axis=1) + np.diff(whole, axis=1) / 2,
            axis=1,
        )
    return Contributions(
        logit=logit,
        mean_logit=float(starts.mean()),
        values=added.mean(axis=0),
        standard_errors=added.std(axis=0, ddof=1) / np.sqrt(num_rows),
    )


def _walk(
    scorer: Scorer,
    places: Sequence[FeaturePlace],
    joined: EncodedRows,
    orders: np.ndarray,
) -> np.ndarray:
    """Return the logits between the walks' ends, [N, F - 1]."""
    num_rows, num_features = orders.shape
    # A feature that comes as the k-th has the row's value from step k on.
    turn = np.argsort(orders, axis=1)
    steps = max(num_features - 1, 0)
    found = np.empty((num_rows, steps))
    at_once = max(1, _ROWS_AT_ONCE // max(steps, 1))
    for first in range(0, num_rows if steps else 0, at_once):
        own = np.arange(first, min(first + at_once, num_rows))
        taken = turn[own][:, None, :] <= np.arange(steps)[None, :, None]
        mixed = mix_rows(
            places, joined, np.repeat(own, steps), taken.reshape(-1, num_features)
        )
        found[own] = scorer.logits(mixed).reshape(len(own), steps)
    return found


def mix_rows(
    places: Sequence[FeaturePlace],
    joined: EncodedRows,
    background: np.ndarray,
    taken: np.ndarray,
) -> EncodedRows:
    """Return rows that have some features of a row and all others of other rows.

    Args:
        places: All F features.
        joined: The background rows, and behind them the row.
        background: int64 [W], the background row of each.
        taken: bool [W, F], the features whose values are the row's.
    """
    rows, last = take_rows(joined, background), len(joined) - 1
    for column, place in enumerate(places):
        index = np.where(taken[:, column], last, background)
        rows = with_values_of(rows, place, joined, index)
    return rows
