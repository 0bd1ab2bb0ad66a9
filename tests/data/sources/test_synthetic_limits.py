"""How far models without planted interactions come on the built-in log."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from dlrm.config.data import DataConfig, SourceFormat, Split, SyntheticSource
from dlrm.data.sources.synthetic import SyntheticLog, cut_parts

pytestmark = pytest.mark.slow

NUM_ROWS = 300_000
IDS = ["age", "region", "device", "slot", "hour", "category", "brand", "item"]
BAGS = ["tags", "interests"]
COUNTS = ["user_views", "item_age_days", "session_pages", "hours_since_visit"]
NUMBERS = [*COUNTS, "price_ratio", "rating"]


@cache
def log() -> pa.Table:
    data = DataConfig(
        name="log",
        format=SourceFormat.synthetic,
        split=Split.source,
        label="click",
        synthetic=SyntheticSource(num_rows=NUM_ROWS),
    )
    return pa.concat_tables([chunk.table for chunk in SyntheticLog(data).chunks()])


def dense() -> np.ndarray:
    """Log counts, log price and rating, float64 [NUM_ROWS, 6]; NaN where missing."""
    columns = [log()[name].to_numpy().astype(np.float64) for name in NUMBERS]
    logs = [np.log1p(column) for column in columns[:-1]]
    return np.stack([*logs, columns[-1]], axis=1)


def way_to_bayes(scores: np.ndarray) -> float:
    """Share of the way from 0.5 to the Bayes AUC on the test rows."""
    test = slice(cut_parts(NUM_ROWS)[2].start, None)
    labels = log()["click"].to_numpy()[test]
    bayes = roc_auc_score(labels, log()["bayes_probability"].to_numpy()[test])
    return (roc_auc_score(labels, scores[test]) - 0.5) / (bayes - 0.5)


def fit_and_score(model, features) -> np.ndarray:
    training = slice(0, cut_parts(NUM_ROWS)[0].stop)
    model.fit(features[training], log()["click"].to_numpy()[training])
    return model.predict_proba(features)[:, 1]


def test_logistic_regression_on_all_features_goes_at_most_85_percent_of_the_way():
    numbers = dense()
    mean, deviation = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
    filled = np.nan_to_num((numbers - mean) / deviation)
    ids = OneHotEncoder().fit_transform(log().select(IDS).to_pandas())
    bags = [bag_matrix(name) for name in BAGS]
    features = sparse.hstack([filled, np.isnan(numbers), ids, *bags]).tocsr()
    ways = [
        way_to_bayes(fit_and_score(LogisticRegression(C=c, max_iter=100), features))
        for c in (0.01, 0.1)
    ]
    assert 0.7 < max(ways) <= 0.85


def bag_matrix(name: str) -> sparse.csr_matrix:
    """The mean of each bag's one-hot tags, [NUM_ROWS, tags]."""
    bags = log()[name].combine_chunks()
    tags, offsets = bags.values.to_numpy(), bags.offsets.to_numpy()
    lengths = np.diff(offsets)
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths)
    return sparse.csr_matrix((shares, tags, offsets), shape=(NUM_ROWS, 120))


def test_dense_features_alone_go_at_most_half_of_the_way():
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    assert 0.2 < way_to_bayes(fit_and_score(model, dense())) <= 0.5
