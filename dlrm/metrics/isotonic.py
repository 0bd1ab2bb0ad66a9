"""The rising step function nearest to the clicks: pool adjacent violators."""

from __future__ import annotations

import numpy as np

from dlrm.metrics.score_table import ScoreTable

_FEW_BLOCKS = 1024


def isotonic_blocks(table: ScoreTable) -> tuple[np.ndarray, np.ndarray]:
    """Return where blocks of scores begin, int64 [N], and their click rates, rising.

    The click rates minimise the weighted sum of squared errors, and the log loss too,
    among all functions of the score that do not fall (Ayer et al. 1955; Barlow et al.
    1972, theorem 1.10). Neighbours that fall, or are equal, are one block of the
    solution; in which order they are pooled makes no difference. Whole runs of them
    are pooled at once while that helps, and the rest one by one.
    """
    starts = np.arange(len(table.scores), dtype=np.int64)
    clicks, mass = table.positives, table.positives + table.negatives
    while len(starts) > _FEW_BLOCKS:
        rates = clicks / mass
        opens = np.concatenate([[0], np.flatnonzero(rates[1:] > rates[:-1]) + 1])
        if len(opens) > 0.9 * len(starts):
            break
        clicks, mass = np.add.reduceat(clicks, opens), np.add.reduceat(mass, opens)
        starts = starts[opens]
    return _pool_one_by_one(starts, clicks, mass)


def _pool_one_by_one(
    starts: np.ndarray, clicks: np.ndarray, mass: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    blocks: list[tuple[int, float, float]] = []
    rows = zip(starts.tolist(), clicks.tolist(), mass.tolist(), strict=True)
    for start, own_clicks, own_mass in rows:
        while blocks and blocks[-1][1] * own_mass >= own_clicks * blocks[-1][2]:
            start, earlier_clicks, earlier_mass = blocks.pop()
            own_clicks, own_mass = own_clicks + earlier_clicks, own_mass + earlier_mass
        blocks.append((start, own_clicks, own_mass))
    found = np.asarray([block[0] for block in blocks], dtype=np.int64)
    return found, np.asarray([block[1] / block[2] for block in blocks])
