"""The built-in log: what its description claims, checked on the rows it gives."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, rankdata

from dlrm.config.data import DataConfig, SourceFormat, Split, SyntheticSource
from dlrm.config.errors import ConfigError
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.impressions import BLOCK_ROWS, count_items, draw_impressions
from dlrm.data.sources.planted import NUM_TAGS, Bags, Truth, judge
from dlrm.data.sources.synthetic import RARE_BELOW, SyntheticLog, cut_parts
from dlrm.data.sources.world import build_world, item_probabilities

NUM_ROWS = 3 * BLOCK_ROWS + 1000
"""Long enough that blocks straddle splits."""


def open_log(num_rows: int, seed: int = 0) -> SyntheticLog:
    options = SyntheticSource(num_rows=num_rows, seed=seed)
    data = DataConfig(
        name="log",
        format=SourceFormat.synthetic,
        split=Split.source,
        label="click",
        synthetic=options,
    )
    return SyntheticLog(data)


@cache
def chunks() -> list[Chunk]:
    return list(open_log(NUM_ROWS).chunks())


@cache
def log() -> pa.Table:
    return pa.concat_tables([chunk.table for chunk in chunks()])


@cache
def world():
    return build_world(0)


def column(name: str) -> np.ndarray:
    return log()[name].to_numpy()


def bag_lengths(name: str) -> np.ndarray:
    return np.array([len(bag) for bag in log()[name].to_pylist()[:5000]])


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mann-Whitney's statistic by the sum of the positives' mean ranks."""
    positives = int(labels.sum())
    ranks = rankdata(scores)[labels == 1].sum() - positives * (positives + 1) / 2
    return ranks / (positives * (len(labels) - positives))


def test_the_same_seed_gives_the_same_rows_again():
    again = next(open_log(NUM_ROWS).chunks()).table
    assert again.equals(log().slice(0, again.num_rows))


def test_another_seed_gives_other_users_items_and_clicks():
    other = next(open_log(2000, seed=1).chunks()).table
    for name in ("user", "item", "click", "bayes_probability"):
        assert not other[name].equals(log()[name].slice(0, other.num_rows))


def test_a_longer_log_goes_on_where_a_shorter_one_ends():
    short = pa.concat_tables([chunk.table for chunk in open_log(40_000).chunks()])
    columns = [name for name in short.column_names if name != "capped_probability"]
    shared = short.select(columns).combine_chunks()
    assert shared.equals(log().select(columns).slice(0, 40_000).combine_chunks())


def test_a_block_needs_no_block_before_it():
    alone = draw_impressions(world(), seed=0, block=2)
    there = slice(2 * BLOCK_ROWS, 3 * BLOCK_ROWS)
    np.testing.assert_array_equal(alone.user, column("user")[there])
    np.testing.assert_array_equal(world().items.key[alone.item], column("item")[there])


def test_chunks_number_every_row_once_and_name_its_split():
    numbers = np.concatenate([chunk.rows for chunk in chunks()])
    np.testing.assert_array_equal(numbers, np.arange(1, NUM_ROWS + 1))
    sizes = dict.fromkeys(("train", "valid", "test"), 0)
    for chunk in chunks():
        assert len(chunk.rows) == chunk.table.num_rows <= BLOCK_ROWS
        sizes[chunk.split] += len(chunk.rows)
    assert list(sizes.values()) == [79_443, 9_930, 9_931]
    progress = [chunk.progress for chunk in chunks()]
    assert all(a < b for a, b in pairwise(progress))
    assert progress[-1] == 1


@pytest.mark.parametrize(("num_rows", "sizes"), [(10, [8, 1, 1]), (19, [15, 2, 2])])
def test_parts_are_cut_8_to_1_to_1_without_gaps(num_rows, sizes):
    parts = cut_parts(num_rows)
    assert [part.stop - part.start for part in parts] == sizes
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:2]]


def test_identity_tells_logs_apart():
    first = open_log(1000, seed=0).identity()
    assert first == open_log(1000, seed=0).identity()
    assert first != open_log(1001, seed=0).identity()
    assert first != open_log(1000, seed=1).identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rows": 9}, r"data\.synthetic\.num_rows must be >= 10.*9"),
        ({"seed": -1}, r"data\.synthetic\.seed must be >= 0.*-1"),
    ],
)
def test_impossible_logs_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticSource(**options)


def test_three_to_ten_percent_of_the_impressions_are_clicked():
    assert 0.03 < column("click").mean() < 0.1
    assert column("bayes_probability").mean() == pytest.approx(0.09, abs=0.003)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_possible_auc_lies_between_075_and_085(seed):
    """Its expectation over clicks: positives weigh p, negatives 1 - p."""
    first = next(open_log(20_000, seed=seed).chunks()).table
    p = np.sort(first["bayes_probability"].to_numpy())
    below = np.cumsum(1 - p) - (1 - p)
    assert 0.75 < (p * below).sum() / (p.sum() * (1 - p).sum()) < 0.85


def test_clicks_are_draws_of_the_true_probability():
    """Clicks within 4 standard errors of their sum in each tenth of the rows."""
    p, click = column("bayes_probability"), column("click")
    for tenth in np.array_split(np.argsort(p), 10):
        error = np.sqrt((p[tenth] * (1 - p[tenth])).sum())
        assert abs(click[tenth].sum() - p[tenth].sum()) < 4 * error


def test_no_score_made_of_one_column_comes_near_the_true_probability():
    click, best = column("click"), auc(column("click"), column("bayes_probability"))
    for name in ("slot", "user_views", "session_pages", "item_age_days", "category"):
        single = auc(click, column(name))
        assert abs(single - 0.5) < 0.6 * (best - 0.5)


def test_bags_are_ragged_and_some_are_empty():
    for name, longest in (("tags", 5), ("interests", 8)):
        assert set(bag_lengths(name)) == set(range(longest + 1))
        assert log()[name].null_count == 0


def test_some_numbers_are_missing_and_counts_are_skewed():
    missing = {
        name: log()[name].null_count / NUM_ROWS
        for name in ("price_ratio", "rating", "hours_since_visit")
    }
    assert missing["price_ratio"] == pytest.approx(0.04, abs=0.005)
    assert 0.05 < missing["rating"] < 0.15
    assert missing["hours_since_visit"] == pytest.approx(0.12, abs=0.005)
    for name in ("user_views", "item_age_days", "session_pages"):
        assert column(name).dtype == np.int64
        assert column(name).mean() > 1.2 * np.median(column(name))


def test_popular_items_follow_a_power_law():
    """A straight line of slope -0.8 through log counts over log ranks."""
    counts = np.sort(np.unique(column("item"), return_counts=True)[1])[::-1]
    ranks = np.arange(1, 201)
    slope = np.polyfit(np.log(ranks), np.log(counts[:200]), 1)[0]
    assert slope == pytest.approx(-0.8, abs=0.05)


def test_the_default_log_has_a_table_of_100_000_rows_and_a_tenth_of_rare_ids():
    """By the binomial law, which gives each item's count in the training rows."""
    training_rows = cut_parts(SyntheticSource().num_rows)[0].stop
    p = item_probabilities()
    assert p.sum() == pytest.approx(1)
    seen = 1 - binom.pmf(0, training_rows, p)
    rare = binom.cdf(RARE_BELOW - 1, training_rows, p)
    assert seen.sum() > 100_000
    assert (p * rare).sum() == pytest.approx(0.1, abs=0.005)


@pytest.mark.slow
def test_the_default_log_itself_has_a_tenth_of_rare_ids():
    num_rows = SyntheticSource().num_rows
    training = count_items(world(), 0, cut_parts(num_rows)[0].stop)
    to_test = count_items(world(), 0, cut_parts(num_rows)[1].stop)
    test = count_items(world(), 0, num_rows) - to_test
    assert (training > 0).sum() > 100_000
    assert test[training < RARE_BELOW].sum() / test.sum() == pytest.approx(
        0.1, abs=5e-3
    )


def test_items_are_counted_as_the_log_shows_them():
    counts = count_items(world(), 0, 50_000)
    shown = np.bincount(column("item")[:50_000], minlength=len(counts))
    np.testing.assert_array_equal(counts, shown[world().items.key])


def test_the_cap_differs_from_the_truth_on_rare_items_alone():
    training = log().slice(0, cut_parts(NUM_ROWS)[0].stop)["item"].to_numpy()
    counts = np.bincount(training, minlength=len(world().items.key))
    rare = counts[column("item")] < RARE_BELOW
    differs = column("capped_probability") != column("bayes_probability")
    assert 0 < rare.sum() < NUM_ROWS
    assert differs[rare].mean() > 0.999
    assert not differs[~rare].any()


def test_the_cap_is_the_mean_over_what_a_rare_item_may_be():
    deviation = 0.2
    own = deviation * np.random.default_rng(0).standard_normal(400_000)
    shared = np.array([-4.0, -2.0, 0.5])
    truth = Truth(shared=shared, own=np.zeros(3), own_variance=np.full(3, deviation**2))
    mean = [(1 / (1 + np.exp(-logit - own))).mean() for logit in shared]
    np.testing.assert_allclose(
        truth.probabilities_of_unknown_items, mean, rtol=2e-3, atol=0
    )


def test_an_items_own_part_has_the_variance_that_the_cap_assumes():
    truth = judge(world(), draw_impressions(world(), 0, 0), intercept=0.0)
    assert np.mean(truth.own**2) == pytest.approx(np.mean(truth.own_variance), rel=0.05)


def test_the_truth_adds_single_effects_and_the_product_of_tastes():
    """One row by hand, from the world's own numbers."""
    rows = draw_impressions(world(), 0, 0)
    truth = judge(world(), rows, intercept=-3.0)
    row = int(np.flatnonzero(np.isnan(rows.price_ratio))[0])
    users, items = world().users, world().items
    user, item = rows.user[row], rows.item[row]
    rating, hours = items.rating[item], rows.hours_since_visit[row]
    taste = sum(users.factors[user][k] * items.factors[item][k] for k in range(3))
    numbers = -0.31 * (np.log(1 + users.views[user]) - 2.2)
    numbers += 0.27 * np.log(1 + rows.session_pages[row])
    numbers += 0.46 * np.exp(-rows.item_age_days[row] / 10)
    numbers += -0.31 if np.isnan(rating) else 0.39 * (rating - 3.9)
    numbers += -0.09 if np.isnan(hours) else -0.12 * (np.log(1 + hours) - 2.2)
    expected = -3.0 + users.effect[user] + items.effect[item] + taste + numbers
    expected += world().slot_effect[rows.device[row], rows.slot[row]]
    expected += world().hour_effect[items.category[item], rows.hour[row]]
    assert truth.shared[row] == pytest.approx(expected)


def test_tastes_are_a_pure_interaction():
    """The product has its strength, and no user and no item is better by it."""
    users, items = world().users, world().items
    of_users = np.diff(users.cumulative, prepend=0.0)
    of_items = np.diff(items.cumulative, prepend=0.0)
    np.testing.assert_allclose(of_users @ users.factors, 0, atol=1e-9)
    np.testing.assert_allclose(of_items @ items.factors, 0, atol=1e-9)
    rows = draw_impressions(world(), 0, 0)
    product = (users.factors[rows.user] * items.factors[rows.item]).sum(axis=1)
    assert product.std() == pytest.approx(world().strengths.taste, rel=0.03)


def test_bags_give_their_tags_and_their_means():
    bags = Bags(
        np.array([[3, 4, 9], [5, 9, 9], [1, 2, 3]], np.int16), np.array([2, 0, 3])
    )
    values, lengths = bags.gather(np.array([2, 1, 0, 0]))
    assert values.tolist() == [1, 2, 3, 3, 4, 3, 4]
    assert lengths.tolist() == [3, 0, 2, 2]
    numbers = np.arange(NUM_TAGS, dtype=np.float64)
    assert bags.mean(numbers).tolist() == [3.5, 0, 2]
    pairs = np.stack([numbers, -numbers], axis=1)
    assert bags.mean(pairs).tolist() == [[3.5, -3.5], [0, 0], [2, -2]]
