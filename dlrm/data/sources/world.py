"""The world of the synthetic click log, drawn once from its seed: users and items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlrm.data.sources.planted import (
    LOG_PRICE_DEVIATION,
    NUM_AGES,
    NUM_BRANDS,
    NUM_CATEGORIES,
    NUM_FACTORS,
    NUM_HOURS,
    NUM_ITEMS,
    NUM_KNOWN_ITEMS,
    NUM_REGIONS,
    NUM_SLOTS,
    NUM_TAGS,
    NUM_TAIL_ITEMS,
    NUM_USERS,
    TAIL_SHARE,
    Bags,
    Items,
    Strengths,
    Users,
    World,
)

_STREAM = 0


def build_world(seed: int) -> World:
    """Draw the world that ``seed`` names."""
    rng = np.random.default_rng([seed, _STREAM])
    strengths = Strengths()
    tag_factors = 1.6 * rng.standard_normal((NUM_TAGS, NUM_FACTORS))
    users = _draw_users(rng, strengths, tag_factors)
    items = _draw_items(rng, strengths, tag_factors)
    users, items, square_norm = _scale_factors(users, items, strengths)
    slots, devices = power_law(NUM_SLOTS, 0.5), device_probabilities()
    slot = _standard(-np.log(np.arange(NUM_SLOTS) + 1.0), slots)
    slope = _standard(np.array([1.0, -1.0, -0.6]), devices)
    own_hour = rng.random((NUM_CATEGORIES, 1)) * NUM_HOURS
    hour = np.arange(NUM_HOURS) / NUM_HOURS * 2 * np.pi
    evening = _standard(np.sin(hour - 3.7), hour_probabilities())
    daily = np.sqrt(2) * np.cos(hour - own_hour / NUM_HOURS * 2 * np.pi)
    buyers = _standard(rng.standard_normal(NUM_CATEGORIES), None)
    return World(
        strengths=strengths,
        users=users,
        items=items,
        slot_effect=slot * (strengths.slot + strengths.device_slot * slope[:, None]),
        hour_effect=strengths.hour * evening + strengths.category_hour * daily,
        price_slope=-strengths.price + strengths.category_price * buyers,
        mean_square_taste=square_norm,
    )


def power_law(num: int, exponent: float) -> np.ndarray:
    """Return probabilities proportional to rank ** -exponent, float64 [num]."""
    weights: np.ndarray = np.arange(1, num + 1, dtype=np.float64) ** -exponent
    weights /= weights.sum()
    return weights


def item_probabilities() -> np.ndarray:
    """Return the probability that an impression shows each item, float64 [I]."""
    known = power_law(NUM_KNOWN_ITEMS, 0.8) * (1 - TAIL_SHARE)
    tail = np.full(NUM_TAIL_ITEMS, TAIL_SHARE / NUM_TAIL_ITEMS)
    return np.concatenate([known, tail])


def draw(rng: np.random.Generator, cumulative: np.ndarray, size: int) -> np.ndarray:
    """Draw ``size`` positions from the distribution that ``cumulative`` sums up."""
    found = np.searchsorted(cumulative, rng.random(size), side="right")
    # The last sum may fall short of 1 by rounding.
    return np.minimum(found, len(cumulative) - 1)


def device_probabilities() -> np.ndarray:
    """Return the share of impressions on phones, desktops and tablets."""
    return np.array([0.6, 0.3, 0.1])


def hour_probabilities() -> np.ndarray:
    """Return the share of impressions in each hour: most at 15, fewest at 3 o'clock."""
    hour = np.arange(NUM_HOURS) / NUM_HOURS * 2 * np.pi
    weights: np.ndarray = 1 + 0.8 * np.sin(hour - 0.75 * np.pi)
    weights /= weights.sum()
    return weights


def _draw_users(
    rng: np.random.Generator, strengths: Strengths, tag_factors: np.ndarray
) -> Users:
    probability = power_law(NUM_USERS, 0.6)
    ages = np.cumsum([0.12, 0.24, 0.24, 0.18, 0.13, 0.09])
    age = draw(rng, ages, NUM_USERS)
    region = draw(rng, np.cumsum(power_law(NUM_REGIONS, 0.8)), NUM_USERS)
    # Ten circles of users, each around its own corner of the tags.
    circle = rng.integers(0, 10, NUM_USERS)
    lengths = [0.1, 0.12, 0.15, 0.16, 0.15, 0.12, 0.09, 0.06, 0.05]
    interests = _draw_bags(rng, circle * (NUM_TAGS // 10), lengths)
    effect_of_age = _standard(rng.standard_normal(NUM_AGES)[age], probability)
    effect_of_region = _standard(rng.standard_normal(NUM_REGIONS)[region], probability)
    factors_of_age = rng.standard_normal((NUM_AGES, NUM_FACTORS))
    factors_of_region = 0.8 * rng.standard_normal((NUM_REGIONS, NUM_FACTORS))
    return Users(
        cumulative=np.cumsum(probability),
        age=age,
        region=region,
        views=rng.poisson(np.exp(rng.normal(2.2, 1.1, NUM_USERS))),
        interests=interests,
        effect=strengths.age * effect_of_age + strengths.region * effect_of_region,
        factors=factors_of_age[age]
        + factors_of_region[region]
        + interests.mean(tag_factors),
    )


def _draw_items(
    rng: np.random.Generator, strengths: Strengths, tag_factors: np.ndarray
) -> Items:
    probability = item_probabilities()
    categories = np.cumsum(power_law(NUM_CATEGORIES, 0.6))
    category_of_brand = draw(rng, categories, NUM_BRANDS)
    brand = draw(rng, np.cumsum(power_law(NUM_BRANDS, 0.7)), NUM_ITEMS)
    category = category_of_brand[brand]
    lengths = [0.08, 0.2, 0.27, 0.25, 0.13, 0.07]
    tags = _draw_bags(rng, category * (NUM_TAGS // NUM_CATEGORIES), lengths)
    effects = (
        (strengths.category, rng.standard_normal(NUM_CATEGORIES)[category]),
        (strengths.brand, rng.standard_normal(NUM_BRANDS)[brand]),
        (strengths.tags, tags.mean(rng.standard_normal(NUM_TAGS))),
    )
    factors_of_category = rng.standard_normal((NUM_CATEGORIES, NUM_FACTORS))
    factors_of_brand = 0.2 * rng.standard_normal((NUM_BRANDS, NUM_FACTORS))
    return Items(
        cumulative=np.cumsum(probability),
        key=rng.permutation(NUM_ITEMS),
        category=category,
        brand=brand,
        tags=tags,
        price_ratio=np.exp(LOG_PRICE_DEVIATION * rng.standard_normal(NUM_ITEMS)),
        rating=_draw_ratings(rng),
        effect=np.sum([s * _standard(e, probability) for s, e in effects], axis=0),
        factors=factors_of_category[category]
        + factors_of_brand[brand]
        + tags.mean(tag_factors),
        own_effect=strengths.own * rng.standard_normal(NUM_ITEMS),
        own_factors=rng.standard_normal((NUM_ITEMS, NUM_FACTORS)),
    )


def _draw_ratings(rng: np.random.Generator) -> np.ndarray:
    rating = np.round(np.clip(rng.normal(3.9, 0.6, NUM_ITEMS), 1, 5), 1)
    share_without = np.where(np.arange(NUM_ITEMS) < NUM_KNOWN_ITEMS, 0.06, 0.6)
    return np.where(rng.random(NUM_ITEMS) < share_without, np.nan, rating)


def _draw_bags(
    rng: np.random.Generator, offsets: np.ndarray, lengths: list[float]
) -> Bags:
    """Draw bags whose tags follow a power law that starts at each owner's offset."""
    shape = (len(offsets), len(lengths) - 1)
    ranks = draw(rng, np.cumsum(power_law(NUM_TAGS, 0.9)), shape[0] * shape[1])
    tags = (ranks.reshape(shape) + offsets[:, None]) % NUM_TAGS
    drawn = draw(rng, np.cumsum(lengths), len(offsets))
    return Bags(tags.astype(np.int16), drawn.astype(np.int32))


def _scale_factors(
    users: Users, items: Items, strengths: Strengths
) -> tuple[Users, Items, float]:
    """Give the products their strengths; return the mean square norm of tastes, too.

    Centred factors make a pure interaction: no user and no item is better than another
    by it, so that a sum of single effects has nothing to learn from it.
    """
    shown_users = np.diff(users.cumulative, prepend=0.0)
    shown_items = np.diff(items.cumulative, prepend=0.0)
    taste = users.factors - shown_users @ users.factors
    likeness = items.factors - shown_items @ items.factors
    covariance = (taste.T * shown_users) @ taste
    of_items = (likeness.T * shown_items) @ likeness
    # Users and items meet at random: the variance of their product is a trace.
    scale = (strengths.taste**2 / np.trace(covariance @ of_items)) ** 0.25
    square_norm = float(np.trace(covariance)) * scale**2
    own = items.own_factors * strengths.own_taste / np.sqrt(square_norm)
    users = replace(users, factors=taste * scale)
    items = replace(items, factors=likeness * scale, own_factors=own)
    return users, items, square_norm


def _standard(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Shift and scale to mean 0 and variance 1 under ``weights``."""
    standard: np.ndarray = values - np.average(values, weights=weights)
    standard /= np.sqrt(np.average(standard**2, weights=weights))
    return standard
