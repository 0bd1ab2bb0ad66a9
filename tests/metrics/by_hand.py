"""Every click metric as its definition reads: loops over rows, and scikit-learn's."""

import math
from itertools import pairwise, permutations

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    ndcg_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

NUM_BINS = 20


def sigmoid(logit):
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def loss_of_one_row(label, logit):
    wrong_way = -logit if label else logit
    return wrong_way if wrong_way > 700 else math.log1p(math.exp(wrong_way))


def rows_by_score(scores):
    ties = {}
    for row, score in enumerate(scores):
        ties.setdefault(float(score), []).append(row)
    return ties


def mass_bins(logits, weights):
    """Members of each bin: a tie goes to the bin of the middle of its mass."""
    total, below, bins = math.fsum(weights), 0.0, {}
    ties = rows_by_score(logits)
    for logit in sorted(ties):
        mass = math.fsum(weights[row] for row in ties[logit])
        place = (below + mass / 2) / total * NUM_BINS
        number = min(math.floor(place + 1e-9), NUM_BINS - 1)
        bins.setdefault(number, []).extend(ties[logit])
        below += mass
    return list(bins.values())


def width_bins(logits):
    """Edges are compared as logits: the probability of -1e-20 rounds to 0.5."""
    edges = [math.log(i / (NUM_BINS - i)) for i in range(1, NUM_BINS)]
    bins = {}
    for row, logit in enumerate(logits):
        number = sum(logit >= edge for edge in edges)
        bins.setdefault(number, []).append(row)
    return list(bins.values())


def mean(values, weights):
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(
        weights
    )


class Bin:
    def __init__(self, members, labels, logits, weights):
        y = [float(labels[row]) for row in members]
        p = [sigmoid(float(logits[row])) for row in members]
        w = [float(weights[row]) for row in members]
        self.weight = math.fsum(w)
        self.rate, self.mean_p = mean(y, w), mean(p, w)
        self.variance = mean([(value - self.mean_p) ** 2 for value in p], w)
        self.covariance = mean(
            [(a - self.mean_p) * (b - self.rate) for a, b in zip(p, y, strict=True)], w
        )
        self.num_effective = self.weight**2 / math.fsum(value**2 for value in w)


def filled_bins(bins, labels, logits, weights):
    return [Bin(members, labels, logits, weights) for members in bins]


def ece(bins):
    return mean([abs(b.mean_p - b.rate) for b in bins], [b.weight for b in bins])


def debiased_square(bins):
    """None where no bin has two rows."""
    usable = [b for b in bins if b.num_effective > 1 + 1e-9]
    if not usable:
        return None
    total = math.fsum(b.weight for b in bins)
    return math.fsum(
        b.weight
        / total
        * ((b.mean_p - b.rate) ** 2 - b.rate * (1 - b.rate) / (b.num_effective - 1))
        for b in usable
    )


def captured(labels, scores, weights, share):
    """The clicks among the first ``share`` of weight; a tie at the cut in part."""
    room = share * math.fsum(weights)
    clicks = math.fsum(w for y, w in zip(labels, weights, strict=True) if y)
    found = 0.0
    ties = rows_by_score(scores)
    for score in sorted(ties, reverse=True):
        tie = ties[score]
        mass = math.fsum(weights[row] for row in tie)
        part = min(1.0, max(room, 0.0) / mass)
        found += part * math.fsum(weights[row] for row in tie if labels[row])
        room -= mass
    return found / clicks


def all_lists(labels, scores):
    """Every order of the rows in which scores fall, as their labels."""
    for order in permutations(range(len(scores))):
        falls = all(scores[a] >= scores[b] for a, b in pairwise(order))
        if falls:
            yield [int(labels[row]) for row in order]


def gain(clicks, k):
    return math.fsum(
        1 / math.log2(2 + place) for place, click in enumerate(clicks[:k]) if click
    )


def list_metrics(labels, scores, k):
    """Mean NDCG@k, reciprocal place of the first click and hit over all orders."""
    lists = list(all_lists(labels, scores))
    best = gain(sorted(map(int, labels), reverse=True), k)
    return (
        math.fsum(gain(clicks, k) / best for clicks in lists) / len(lists),
        math.fsum(1 / (1 + clicks.index(1)) for clicks in lists) / len(lists),
        math.fsum(any(clicks[:k]) for clicks in lists) / len(lists),
    )


def first_click(labels, scores, k):
    """Mean of 1 / place and of a hit by the ranks of long lists, without their orders.

    The chance that the first j rows of a tie hold no click is C(t - c, j) / C(t, j).
    """
    above = 0
    for score in sorted(set(scores.tolist()), reverse=True):
        tie = labels[scores == score]
        size, clicks = len(tie), int(tie.sum())
        if clicks:
            none = [
                math.comb(size - clicks, j) / math.comb(size, j)
                for j in range(size + 1)
            ]
            reciprocal = math.fsum(
                (none[j] - none[j + 1]) / (above + j + 1) for j in range(size)
            )
            return reciprocal, 1 - none[min(max(k - above, 0), size)]
        above += size
    raise AssertionError("no click")


def grouped_metrics(labels, logits, weights, groups):
    """The metrics within groups that have both classes; None if there is none."""
    found = {"auc": [], "ndcg": [], "mrr": [], "hit": []}
    impressions, clicks, means = [], [], []
    for group in np.unique(groups[weights > 0]):
        chosen = (groups == group) & (weights > 0)
        y, z, w = labels[chosen], logits[chosen], weights[chosen]
        if y.min() == y.max():
            continue
        found["auc"].append(roc_auc_score(y, z, sample_weight=w))
        found["ndcg"].append(ndcg_score([y], [z.astype(np.float64)], k=10))
        mrr, hit = first_click(y, z, 10)
        found["mrr"].append(mrr)
        found["hit"].append(hit)
        impressions.append(w.sum())
        clicks.append(w[y == 1].sum())
        means.append(w.mean())
    if not impressions:
        return None
    return {
        "gauc": mean(found["auc"], impressions),
        "gauc_by_clicks": mean(found["auc"], clicks),
        "ndcg_at_10": mean(found["ndcg"], means),
        "mrr": mean(found["mrr"], means),
        "hit_rate_at_10": mean(found["hit"], means),
    }


def metrics(labels, logits, weights):
    """Every metric of rows of both classes; None where it has no value."""
    labels, logits, weights = (
        column[weights > 0] for column in (labels, logits, weights)
    )
    weights = weights.astype(np.float64)
    probabilities = [sigmoid(float(logit)) for logit in logits]
    # To scikit-learn an infinity is a wrong input, and order is all that it is to see.
    order = np.clip(logits.astype(np.float64), -1e30, 1e30)
    weighted = {"sample_weight": weights}
    losses = [loss_of_one_row(y, float(z)) for y, z in zip(labels, logits, strict=True)]
    rate = mean(labels, weights)
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    by_mass = filled_bins(mass_bins(logits, weights), labels, logits, weights)
    by_width = filled_bins(width_bins(logits), labels, logits, weights)
    mass = [b.weight for b in by_mass]
    square = debiased_square(by_mass)
    calls = np.array(logits >= 0)
    log_loss = mean(losses, weights)
    capture = captured(labels, order, weights, 0.1)
    return {
        "auc": roc_auc_score(labels, order, **weighted),
        "pr_auc": average_precision_score(labels, order, **weighted),
        "log_loss": log_loss,
        "normalized_entropy": log_loss / entropy,
        "rig": 1 - log_loss / entropy,
        "brier": brier_score_loss(labels, probabilities, **weighted),
        "brier_reliability": mean([(b.mean_p - b.rate) ** 2 for b in by_mass], mass),
        "brier_resolution": mean([(b.rate - rate) ** 2 for b in by_mass], mass),
        "brier_uncertainty": rate * (1 - rate),
        "brier_within_bin": mean(
            [b.variance - 2 * b.covariance for b in by_mass], mass
        ),
        "calibration": mean(probabilities, weights) / rate,
        "ece": ece(by_mass),
        "ece_equal_width": ece(by_width),
        "ece_debiased": None if square is None else math.sqrt(max(square, 0.0)),
        "accuracy": accuracy_score(labels, calls, **weighted),
        "precision_at_0_5": precision_score(labels, calls, **weighted)
        if calls.any()
        else None,
        "recall_at_0_5": recall_score(labels, calls, **weighted),
        "f1_at_0_5": f1_score(labels, calls, **weighted),
        "top_decile_capture": capture,
        "lift_top_decile": 10 * capture,
    }
