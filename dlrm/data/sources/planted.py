"""The truth behind the synthetic click log: how likely each impression is a click.

Effects are in log-odds. Shapes: R impressions, U users, I items, C categories,
K = NUM_FACTORS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_FACTORS = 3
NUM_USERS = 20_000
NUM_AGES = 6
NUM_REGIONS = 32
NUM_DEVICES = 3
NUM_SLOTS = 10
NUM_HOURS = 24
NUM_CATEGORIES = 32
NUM_BRANDS = 800
NUM_TAGS = 120

NUM_KNOWN_ITEMS = 75_000
"""Items in steady traffic, whose impressions follow a power law."""
NUM_TAIL_ITEMS = 625_000
"""Items that are hardly ever shown."""
NUM_ITEMS = NUM_KNOWN_ITEMS + NUM_TAIL_ITEMS
TAIL_SHARE = 0.075
"""Share of the impressions that show an item of the tail, each as often as another."""
LOG_PRICE_DEVIATION = 0.5


@dataclass(frozen=True, slots=True)
class Strengths:
    """Standard deviation of each planted effect over impressions, in log-odds."""

    taste: float = 0.65
    """The product of the user's and the item's factors."""
    category: float = 0.5
    brand: float = 0.15
    tags: float = 0.3
    age: float = 0.2
    region: float = 0.25
    slot: float = 0.7
    device_slot: float = 0.35
    """How much steeper the slots fall on some devices."""
    hour: float = 0.25
    category_hour: float = 0.35
    """Each category's own time of day."""
    price: float = 0.2
    category_price: float = 0.25
    """How much more some categories' buyers mind the price."""
    own: float = 0.12
    """What is an item's own, beyond its category, brand and tags: an appeal to all."""
    own_taste: float = 0.12
    """The same for the item's factors, in the product with the user's."""


@dataclass(frozen=True, slots=True)
class Bags:
    """One bag of tags for each of N owners, padded on the right."""

    tags: np.ndarray
    """int16 [N, longest]."""
    lengths: np.ndarray
    """int32 [N]."""

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average ``values`` [NUM_TAGS, ...] over each bag; an empty bag has 0."""
        total = np.zeros((len(self.lengths), *values.shape[1:]))
        for place in range(self.tags.shape[1]):
            inside = self.lengths > place
            total[inside] += values[self.tags[inside, place]]
        lengths = np.maximum(self.lengths, 1)
        mean: np.ndarray = (total.T / lengths).T
        return mean

    def gather(self, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the bags of ``owners`` [R]: values [V] end to end, and lengths [R]."""
        lengths = self.lengths[owners]
        inside = np.arange(self.tags.shape[1]) < lengths[:, None]
        return self.tags[owners][inside], lengths


@dataclass(frozen=True, slots=True)
class Users:
    """What is known of each user, and what they like."""

    cumulative: np.ndarray
    """float64 [U]: probability that an impression is one of the users up to here."""
    age: np.ndarray
    region: np.ndarray
    views: np.ndarray
    """int64 [U]: pages seen in 30 days."""
    interests: Bags
    """Tags that the user looked at before."""
    effect: np.ndarray
    """float64 [U]."""
    factors: np.ndarray
    """float64 [U, K], mean 0 over impressions."""


@dataclass(frozen=True, slots=True)
class Items:
    """What is known of each item, and what it is like; the most shown item first."""

    cumulative: np.ndarray
    """float64 [I]: probability that an impression is one of the items up to here."""
    key: np.ndarray
    """int64 [I]: the id in the log, which says nothing of the rank."""
    category: np.ndarray
    brand: np.ndarray
    tags: Bags
    price_ratio: np.ndarray
    """float64 [I]: list price over the category's typical price."""
    rating: np.ndarray
    """float64 [I]: mean of its reviews, NaN where there are none."""
    effect: np.ndarray
    """float64 [I]: the effect of category, brand and tags."""
    factors: np.ndarray
    """float64 [I, K]: those of category, brand and tags, mean 0 over impressions."""
    own_effect: np.ndarray
    own_factors: np.ndarray


@dataclass(frozen=True, slots=True)
class World:
    """Users, items, and the effects of where and when an item is shown."""

    strengths: Strengths
    users: Users
    items: Items
    slot_effect: np.ndarray
    """float64 [devices, slots]."""
    hour_effect: np.ndarray
    """float64 [C, hours]."""
    price_slope: np.ndarray
    """float64 [C]: effect of one standard deviation of log price."""
    mean_square_taste: float
    """Mean over impressions of the squared norm of the user's factors."""


@dataclass(frozen=True, slots=True)
class Impressions:
    """Items shown to users: what was drawn, and the numbers as the log has them."""

    item: np.ndarray
    """int64 [R], as the other four: a position in the world's arrays."""
    user: np.ndarray
    device: np.ndarray
    slot: np.ndarray
    hour: np.ndarray
    price_ratio: np.ndarray
    """float64 [R]: price paid over the category's typical price; NaN where missing."""
    item_age_days: np.ndarray
    session_pages: np.ndarray
    """int64 [R]: pages seen in this session so far."""
    hours_since_visit: np.ndarray
    """float64 [R]: NaN on a first visit."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Log-odds of a click: what features share, and what is one item's own."""

    shared: np.ndarray
    """float64 [R], as the others."""
    own: np.ndarray
    own_variance: np.ndarray
    """Variance of ``own`` for one who does not know the item."""

    @property
    def probabilities(self) -> np.ndarray:
        """The true probability of a click."""
        return _sigmoid(self.shared + self.own)

    @property
    def probabilities_of_unknown_items(self) -> np.ndarray:
        """The mean of ``probabilities`` over what the item's own part may be.

        Second order in the own part's standard deviation, which is a fifth of one.
        """
        p = _sigmoid(self.shared)
        p += 0.5 * self.own_variance * p * (1 - p) * (1 - 2 * p)
        return p


def judge(world: World, rows: Impressions, *, intercept: float) -> Truth:
    """Return the truth about ``rows``."""
    users, items = world.users, world.items
    category = items.category[rows.item]
    taste = users.factors[rows.user]
    shared = intercept + users.effect[rows.user] + items.effect[rows.item]
    shared += np.einsum("rk,rk->r", taste, items.factors[rows.item])
    shared += world.slot_effect[rows.device, rows.slot]
    shared += world.hour_effect[category, rows.hour]
    log_price = np.log(np.nan_to_num(rows.price_ratio, nan=1.0))
    shared += world.price_slope[category] * log_price / LOG_PRICE_DEVIATION
    shared += _effect_of_numbers(rows, users.views[rows.user], items.rating[rows.item])
    own_taste = np.einsum("rk,rk->r", taste, items.own_factors[rows.item])
    strengths = world.strengths
    length = np.einsum("rk,rk->r", taste, taste) / world.mean_square_taste
    return Truth(
        shared=shared,
        own=items.own_effect[rows.item] + own_taste,
        own_variance=strengths.own**2 + strengths.own_taste**2 * length,
    )


def _effect_of_numbers(
    rows: Impressions, views: np.ndarray, rating: np.ndarray
) -> np.ndarray:
    """Return the effect of the dense features other than the price.

    A missing number has an effect of its own: the truth knows no more than the log.
    """
    effect: np.ndarray = -0.31 * (np.log1p(views) - 2.2)
    effect += 0.27 * np.log1p(rows.session_pages)
    effect += 0.46 * np.exp(-rows.item_age_days / 10)
    effect += np.where(np.isnan(rating), -0.31, 0.39 * (rating - 3.9))
    visit = -0.12 * (np.log1p(rows.hours_since_visit) - 2.2)
    effect += np.where(np.isnan(visit), -0.09, visit)
    return effect


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = 1 / (1 + np.exp(-logits))
    return probabilities
