"""Thinned logs: log(rate) on the logit, 1 / rate on kept non-clicks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dlrm.config.data import DataConfig, SourceFormat
from dlrm.config.errors import ConfigError, DatasetError
from dlrm.config.features import SparseFeature
from dlrm.evaluation.calibrated import Correction, fit_calibration
from dlrm.evaluation.predictions import Predictions, concatenate_predictions
from dlrm.evaluation.true_rate import to_true_rate


def data_config(**settings):
    return DataConfig(
        name="thinned",
        format=SourceFormat.table,
        sparse_features={"a": SparseFeature()},
        **settings,
    )


def predictions(labels, logits, weights=None):
    labels = np.asarray(labels, dtype=np.float32)
    weights = np.ones(len(labels)) if weights is None else weights
    return Predictions(
        np.arange(len(labels)),
        np.asarray(logits, dtype=np.float32),
        labels,
        np.asarray(weights, dtype=np.float32),
    )


def side_of(num_rows, **columns):
    return pa.table({"__row": np.arange(num_rows), **columns})


ONE_RATE = {"negative_keep_rate": 0.05, "sampled_splits": ["train", "valid"]}
BY_COLUMN = {"keep_rate_column": "rate", "sampled_splits": ["train"]}


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


@pytest.mark.parametrize("sampled", [False, True])
def test_one_rate_moves_all_logits_and_weighs_sampled_non_clicks(sampled):
    found = predictions([0, 1, 0], [-1.0, 0.5, 2.0], [1.0, 2.0, 3.0])
    true = to_true_rate(found, data_config(**ONE_RATE), side_of(3), sampled=sampled)
    # The odds of a click, which were 20 times too high.
    np.testing.assert_allclose(
        np.exp(true.logits), 0.05 * np.exp([-1.0, 0.5, 2.0]), rtol=1e-12
    )
    assert true.weights.tolist() == ([20.0, 2.0, 60.0] if sampled else [1.0, 2.0, 3.0])
    assert true.weights.dtype == np.float32
    assert true.raw_logits is found.logits


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_rates_of_a_column_go_by_row_id_and_are_1_where_missing(kind):
    rates = [0.5, None, 0.1, 0.25]
    texts = None if kind == "numbers" else ["0.5", None, " 1e-1", "0.25"]
    side = side_of(4, rate=pa.array(texts or rates))
    rows = predictions([1, 0, 0], [0.0, 0.0, 0.0])
    rows = Predictions(np.array([0, 1, 3]), rows.logits, rows.labels, rows.weights)
    true = to_true_rate(rows, data_config(**BY_COLUMN), side, sampled=True)
    np.testing.assert_allclose(sigmoid(true.logits), [1 / 3, 1 / 2, 1 / 5], rtol=1e-12)
    assert true.weights.tolist() == [1.0, 1.0, 4.0]


def test_without_a_rate_predictions_stay_what_they_are():
    found = predictions([0, 1], [0.0, 1.0])
    data = data_config()
    assert to_true_rate(found, data, side_of(2), sampled=False) is found
    assert Correction(data).apply(found, side_of(2), sampled=False) is found
    assert Correction(data).does_nothing


def test_a_column_that_was_not_kept_or_holds_no_share_is_refused():
    found, data = predictions([0, 1], [0.0, 1.0]), data_config(**BY_COLUMN)
    with pytest.raises(DatasetError, match="'rate' .* must be kept beside the rows"):
        to_true_rate(found, data, side_of(2), sampled=False)
    for bad in (0.0, 1.5, -0.1):
        with pytest.raises(DatasetError, match=r"shares in \(0, 1\], but row 1 has"):
            to_true_rate(found, data, side_of(2, rate=[0.5, bad]), sampled=False)


def thinned_log(num_rows, seed, rates_by_slice, *, factor, sampled):
    """Draw a log of two slices, thin its non-clicks, score it.

    A perfect model of the thinned log has the true logit of that log, which lacks
    log(rate): its odds are 1 / rate too high. This one's logits are ``factor`` times
    those.
    """
    random = np.random.default_rng(seed)
    where = random.integers(0, 2, num_rows)
    truth = random.normal(-2.2 + 0.8 * where, 1.0)
    labels = (random.random(num_rows) < sigmoid(truth)).astype(np.float32)
    rates = np.asarray(rates_by_slice)[where]
    logits = factor * (truth - np.log(rates))
    kept = np.ones(num_rows, dtype=bool)
    if sampled:
        kept = (labels > 0) | (random.random(num_rows) < rates)
    rows = predictions(labels[kept], logits[kept])
    return rows, side_of(int(kept.sum()), rate=rates[kept])


@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.05, 0.3)])
@pytest.mark.parametrize("method", ["platt", "isotonic", "beta"])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_thinned_log_promises_the_clicks_that_a_whole_one_has(rates, method, factor):
    data = data_config(keep_rate_column="rate", sampled_splits=["train", "valid"])
    if rates[0] == rates[1]:
        data = data_config(**ONE_RATE)
    valid, side = thinned_log(250_000, 1, rates, factor=factor, sampled=True)
    true = Correction(data).apply(valid, side, sampled=True)
    found = fit_calibration(method, true, data, checkpoint="step_1", split="valid")
    assert found.order == ("log_keep_rate", method)

    test, side = thinned_log(250_000, 2, rates, factor=factor, sampled=False)
    assert test.labels.sum() >= 20_000
    true = Correction(data, found).apply(test, side, sampled=False)
    assert (true.weights == 1).all()
    assert true.raw_logits is test.logits
    promised, came = sigmoid(true.logits).mean(), test.labels.mean()
    assert promised / came == pytest.approx(1, abs=0.02)
    # What the model itself promises is of the thinned log.
    assert sigmoid(test.logits).mean() / came > 2


def test_parts_with_and_without_corrected_logits_become_one():
    first = predictions([0, 1], [0.0, 1.0])
    true = to_true_rate(first, data_config(**ONE_RATE), side_of(2), sampled=False)
    later = Predictions(np.array([2]), *(a[:1] for a in (first.logits, first.labels)),
                        first.weights[:1])  # fmt: skip
    whole = concatenate_predictions([later, true])
    assert whole.raw_logits.tolist() == [0.0, 1.0, 0.0]
    assert whole.logits.tolist() == [*true.logits.tolist(), 0.0]
    assert concatenate_predictions([first]).raw_logits is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negative_keep_rate": 0.0, "sampled_splits": ["train"]}, r"in \(0, 1\]"),
        ({"negative_keep_rate": 1.5, "sampled_splits": ["train"]}, r"in \(0, 1\]"),
        ({"negative_keep_rate": 0.5}, r"sampled_splits must be train and .* is null"),
        (
            {**ONE_RATE, "keep_rate_column": "rate"},
            "unset beside data.keep_rate_column",
        ),
        ({**ONE_RATE, "sampled_splits": ["valid"]}, "sampled_splits must be train and"),
        ({**ONE_RATE, "sampled_splits": ["train", "dev"]}, "must be train and those"),
        ({"sampled_splits": ["train"]}, "unset without data.negative_keep_rate"),
        ({**BY_COLUMN, "keep_rate_column": "label"}, "another column than data.label"),
    ],
)
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        data_config(**settings)
