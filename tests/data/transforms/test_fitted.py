from __future__ import annotations

import dataclasses
import tempfile

import numpy as np
import pytest

from dlrm.config.data import Split
from dlrm.config.errors import DataError
from dlrm.config.features import (
    DenseFeature,
    Encoding,
    Missing,
    OutOfRange,
    SparseFeature,
)
from dlrm.data.preparation.prepare import prepare_source
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.dense_columns import Moments
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.data.transforms.quantiles import QuantileSample
from tests.data.raw import ListSource, chunk, config, typed

NAN = float("nan")


def fit(data, *parts, train=None):
    with tempfile.TemporaryDirectory() as folder:
        return FittedTransforms.load(prepared(folder, data, *parts, train=train))


def prepared(folder, data, *parts, train=None):
    """Prepare a dataset, chunk by chunk; the rows where not ``train`` test."""
    chunks, first_row = [], 2
    for index, part in enumerate(parts):
        columns = labelled(part)
        size = len(columns["label"])
        chosen = [True] * size if train is None else train[index]
        columns["split"] = ["train" if is_train else "test" for is_train in chosen]
        chunks.append(chunk(columns, first_row=first_row))
        first_row += size
    settings = dataclasses.replace(
        data,
        prepared=str(folder),
        split=Split.column,
        split_column="split",
        all_clicks=True,
        num_workers=1,
    )
    return prepare_source(settings, ListSource(chunks))


def labelled(columns):
    size = len(next(iter(columns.values())))
    return {"label": [1] * size, **columns}


def encode(transforms, data, columns, observe=None):
    return transforms.encode(typed(data, labelled(columns)), observe)


def dense_of(values, **options):
    data = config(dense={"x": DenseFeature(**options)})
    return encode(fit(data, {"x": values}), data, {"x": values}).dense


def rows_of(feature, train, values):
    data = config(sparse={"x": feature})
    found = encode(fit(data, {"x": train}), data, {"x": values})
    return found.one_hot[:, 0].tolist()


def dense_by_definition(values, feature):
    """Each transform over the whole column, one after the other."""
    x = np.array([NAN if v is None else v for v in values], dtype=np.float64)
    missing = np.isnan(x)
    if feature.missing is Missing.zero:
        x[missing] = 0
    low = -np.inf if feature.clip_min is None else feature.clip_min
    high = np.inf if feature.clip_max is None else feature.clip_max
    x = np.where(np.isnan(x), x, np.minimum(np.maximum(x, low), high))
    if feature.log1p:
        x = np.sign(x) * np.log1p(np.abs(x))
    if feature.missing is Missing.mean:
        x[np.isnan(x)] = np.nanmean(x)
    if feature.standardize:
        x = (x - x.mean()) / (x.std() or 1)
    columns = [x] + [missing] * feature.missing_indicator
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"standardize": False},
        {"log1p": True},
        {"clip_min": -2.0, "clip_max": 5.0, "log1p": True},
        {"clip_max": 3.0, "standardize": False},
        {"missing": Missing.mean},
        {"missing": Missing.mean, "standardize": False},
        {"missing": Missing.mean, "log1p": True, "missing_indicator": True},
        {"missing_indicator": True, "standardize": False},
    ],
)
def test_dense_transforms_are_missing_clip_log1p_standardize_in_this_order(options):
    values = [3.0, None, -7.0, 0.0, 12.5, None, 1.0]
    expected = dense_by_definition(values, DenseFeature(**options))
    np.testing.assert_allclose(dense_of(values, **options), expected, atol=1e-6)


def test_a_constant_column_becomes_zero_exactly():
    assert dense_of([0.1] * 1000 + [0.1]).tolist() == [[0.0]] * 1001


def test_a_column_of_missing_values_becomes_zero():
    for missing in (Missing.zero, Missing.mean):
        assert dense_of([None, None], missing=missing).tolist() == [[0.0], [0.0]]


def test_moments_of_chunks_are_those_of_the_whole():
    values = np.random.default_rng(0).normal(1e6, 1e-2, 1000)
    moments = Moments()
    for part in np.split(values, [1, 2, 500]):
        moments.add(part)
    fitted = moments.fit("x", DenseFeature())
    assert fitted.mean == pytest.approx(values.mean(), rel=1e-15)
    assert fitted.std == pytest.approx(values.std(), rel=1e-9)


def test_dense_columns_stand_in_schema_order_each_before_its_indicator():
    data = config(
        dense={
            "a": DenseFeature(standardize=False, missing_indicator=True),
            "b": DenseFeature(standardize=False),
        }
    )
    columns = {"a": [1, None], "b": [3, 4]}
    assert encode(fit(data, columns), data, columns).dense.tolist() == [
        [1, 0, 3],
        [0, 1, 4],
    ]


def test_a_value_too_large_for_float32_is_refused_with_its_place():
    data = config(dense={"x": DenseFeature(standardize=False)})
    transforms = fit(data, {"x": [1.0]})
    with pytest.raises(DataError, match=r"clicks\.csv, line 3.*'x'.*1e\+39") as caught:
        encode(transforms, data, {"x": [1.0, 1e39]})
    assert "data.dense_features.x.clip_max" in str(caught.value)


def test_statistics_that_overflow_are_refused():
    data = config(dense={"x": DenseFeature()})
    with pytest.raises(DataError, match="finite mean and standard deviation"):
        fit(data, {"x": [1e300, -1e300]})


@pytest.mark.parametrize("num_buckets", [2, 3, 4, 7])
def test_fitted_buckets_hold_equally_many_training_values(num_buckets):
    size = 12 * num_buckets
    values = np.random.default_rng(0).permutation(size).astype(float)
    feature = SparseFeature(encoding=Encoding.bucketize, num_buckets=num_buckets)
    rows = rows_of(feature, values.tolist(), values.tolist())
    assert np.bincount(rows).tolist() == [0] + [12] * num_buckets
    # Buckets are ordered as values are.
    assert np.all(np.diff(np.array(rows)[np.argsort(values)]) >= 0)


def test_given_boundaries_cut_from_below_and_missing_is_row_0():
    feature = SparseFeature(encoding=Encoding.bucketize, boundaries=[0.0, 10.0])
    values = [-1, 0, 9.9, 10, 1e9, None]
    assert rows_of(feature, [5.0], values) == [1, 2, 2, 3, 3, 0]


def test_values_that_are_all_equal_make_one_bucket():
    feature = SparseFeature(encoding=Encoding.bucketize, num_buckets=5)
    assert rows_of(feature, [3.0] * 9, [3.0, 2.0, None]) == [1, 1, 0]


def test_a_quantile_sample_is_bounded_repeatable_and_close():
    values = np.random.default_rng(0).normal(size=50_000)
    found = []
    for _ in range(2):
        sample = QuantileSample(max_size=4000)
        for part in np.split(values, 50):
            sample.add(part)
        found.append(sample.boundaries(4))
    assert found[0] == found[1]
    np.testing.assert_allclose(
        found[0], np.quantile(values, [0.25, 0.5, 0.75]), atol=0.06
    )


def test_only_training_rows_shape_what_is_fitted():
    data = config(
        dense={"d": DenseFeature()},
        sparse={
            "v": SparseFeature(),
            "m": SparseFeature(multi_hot=True, delimiter="pipe"),
            "b": SparseFeature(encoding=Encoding.bucketize, num_buckets=2),
        },
    )
    train = [[True, True, False], [False, True, False]]
    first = {
        "d": [1, 2, 3],
        "v": ["a", "b", "c"],
        "m": ["x|y", "", "z"],
        "b": [1, 2, 3],
    }
    second = {
        "d": [4, 5, 6],
        "v": ["d", "a", "a"],
        "m": ["z", "x", "z"],
        "b": [4, 5, 6],
    }
    seen = fit(data, first, second, train=train)
    for part, chosen in ((first, train[0]), (second, train[1])):
        for column, values in part.items():
            other = {"d": 99, "v": "new", "m": "new|n", "b": -99}[column]
            part[column] = [
                value if is_train else other
                for value, is_train in zip(values, chosen, strict=True)
            ]
    changed = fit(data, first, second, train=train)
    assert changed.schema == seen.schema
    for table, vocabulary in seen.vocabularies.items():
        assert changed.vocabularies[table].keys.equals(vocabulary.keys)


def test_features_that_share_a_table_share_one_vocabulary():
    data = config(
        sparse={
            "last": SparseFeature(table="item"),
            "seen": SparseFeature(table="item", multi_hot=True, delimiter="pipe"),
        }
    )
    columns = {"last": ["b", "c"], "seen": ["a|b", "b|a|a|a"]}
    transforms = fit(data, columns)
    assert list(transforms.vocabularies) == ["item"]
    assert transforms.vocabularies["item"].keys.to_pylist() == ["a", "b", "c"]
    rows = encode(transforms, data, columns)
    assert rows.one_hot[:, 0].tolist() == [2, 3]
    assert rows.bag_values.tolist() == [1, 2, 2, 1, 1, 1]
    assert [f.num_embeddings for f in transforms.schema.sparse] == [4, 4]


def test_bags_lie_row_by_row_in_schema_order_with_their_weights():
    data = config(
        sparse={
            "a": SparseFeature(
                encoding=Encoding.identity, num_embeddings=99, multi_hot=True
            ),
            "one": SparseFeature(encoding=Encoding.identity, num_embeddings=99),
            "b": SparseFeature(
                encoding=Encoding.identity,
                num_embeddings=99,
                multi_hot=True,
                weight_column="w",
            ),
        }
    )
    columns = {
        "a": [[1, 2], [], [3]],
        "one": [7, 8, 9],
        "b": [[4], [5, 6], []],
        "w": [[0.5], [2.0, 3.0], []],
    }
    rows = encode(fit(data, columns), data, columns)
    assert rows.one_hot.tolist() == [[7], [8], [9]]
    assert rows.bag_lengths.tolist() == [[2, 1], [0, 2], [1, 0]]
    assert rows.bag_values.tolist() == [1, 2, 4, 5, 6, 3]
    assert rows.bag_weights.tolist() == [1, 1, 0.5, 2, 3, 1]


def test_bag_weights_are_none_without_a_weighted_feature():
    data = config(sparse={"x": SparseFeature(multi_hot=True)})
    columns = {"x": [["a"]]}
    assert encode(fit(data, columns), data, columns).bag_weights is None


def test_an_id_out_of_range_names_feature_table_value_file_row_and_setting():
    feature = SparseFeature(
        encoding=Encoding.identity,
        num_embeddings=10,
        out_of_range=OutOfRange.error,
        multi_hot=True,
        table="movies",
    )
    data = config(sparse={"x": feature})
    transforms = fit(data, {"x": [[1]]})
    with pytest.raises(DataError) as caught:
        encode(transforms, data, {"x": [[1, 2], [], [3, 12]]})
    message = str(caught.value)
    for part in ("'x'", "'movies'", "'12'", "clicks.csv, line 4", "rows 0 to 9"):
        assert part in message
    assert "data.sparse_features.x.out_of_range=oov" in message


def test_a_value_outside_the_vocabulary_is_named_where_that_is_an_error():
    data = config(sparse={"x": SparseFeature(out_of_range=OutOfRange.error)})
    transforms = fit(data, {"x": ["a", "b"]})
    with pytest.raises(
        DataError, match=r"'new' in clicks\.csv, line 3.*2 other values"
    ):
        encode(transforms, data, {"x": ["a", "new"]})


def test_ids_outside_are_reported_id_by_id():
    data = config(
        sparse={"x": SparseFeature(), "m": SparseFeature(multi_hot=True)},
    )
    transforms = fit(data, {"x": ["a", "b"], "m": [["p"], ["q"]]})
    seen = {}

    def observe(name, is_outside, lengths):
        seen[name] = is_outside.tolist(), None if lengths is None else lengths.tolist()

    columns = {"x": ["b", "c"], "m": [["p", "r"], ["s"]]}
    encode(transforms, data, columns, observe)
    assert seen == {
        "x": ([False, True], None),
        "m": ([False, True, True], [2, 1]),
    }


def test_labels_and_weights_are_0_and_1_where_there_are_none():
    data = config(dense={"x": DenseFeature()}, weight_column="w")
    columns = {"x": [1.0, 2.0], "w": [3, 4]}
    transforms = fit(data, columns)
    table = typed(data, labelled(columns))
    assert transforms.encode(table).weights.tolist() == [3, 4]
    bare = transforms.encode(table.drop_columns(["label", "weight"]))
    assert bare.labels.tolist() == [0, 0]
    assert bare.weights.tolist() == [1, 1]


def test_saved_transforms_encode_as_before(tmp_path):
    data = config(
        dense={"d": DenseFeature(log1p=True, missing=Missing.mean)},
        sparse={
            "v": SparseFeature(min_frequency=2),
            "h": SparseFeature(encoding=Encoding.hash, num_embeddings=5),
            "b": SparseFeature(encoding=Encoding.bucketize, num_buckets=3),
        },
    )
    columns = {
        "d": [1, None, 5, 7],
        "v": ["a", "b", "a", ""],
        "h": ["p", "q", "r", None],
        "b": [4, 3, None, 1],
    }
    folder = prepared(tmp_path, data, columns)
    fitted = FittedTransforms.load(folder)
    fitted.save(tmp_path)
    loaded = FittedTransforms.load(tmp_path)
    assert loaded.schema == fitted.schema
    expected = Dataset.open(folder).split("train").gather(np.arange(4))
    for transforms in (fitted, loaded):
        found = encode(transforms, data, columns)
        assert found.dense.tolist() == expected.dense.tolist()
        assert found.one_hot.tolist() == expected.one_hot.tolist()


def test_no_rows_encode_to_no_rows():
    data = config(
        dense={"d": DenseFeature()},
        sparse={"v": SparseFeature(), "m": SparseFeature(multi_hot=True)},
    )
    columns = {"d": [1], "v": ["a"], "m": [["p"]]}
    table = typed(data, labelled(columns))
    rows = fit(data, columns).encode(table.slice(0, 0))
    assert (len(rows), rows.bag_values.size) == (0, 0)
