from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dlrm.config.errors import DatasetError
from dlrm.data.catalogue import (
    CATALOGUE_FILE,
    NOT_FOUND,
    Catalogue,
    _documents,
    build_catalogue,
)
from dlrm.data.document_keys import DocumentKeys
from dlrm.data.loading.collate import encoded_batches
from tests.data.documents import FEATURES, batch_of, document_schema, rows_of


class InMemory:
    """A dataset whose splits are given as rows."""

    def __init__(self, schema, **splits):
        self.schema, self.splits, self._rows = schema, tuple(splits), splits

    def split(self, name):
        rows = self._rows[name]

        class Rows:
            num_rows = len(rows)

            def slice(self, start, stop):
                (piece,) = rows.pieces([start, stop])
                return piece

        return Rows()


def documents_of(rows):
    """Return each row's document as plain values: s1, the bag of s2, d1."""
    starts = rows.value_starts()
    return [
        (
            int(rows.one_hot[i, 1]),
            tuple(
                sorted(
                    zip(
                        rows.bag_values[starts[i] : starts[i + 1]].tolist(),
                        rows.bag_weights[starts[i] : starts[i + 1]].tolist(),
                        strict=True,
                    )
                )
            ),
            float(rows.dense[i, 1]),
        )
        for i in range(len(rows))
    ]


def random_rows(num_rows, seed):
    random = np.random.default_rng(seed)

    def bag():
        ids = random.permutation(4)[: random.integers(3)]
        return {int(i): float(random.integers(1, 3)) for i in ids}

    return rows_of(
        *(
            (
                int(random.integers(7)),
                int(random.integers(3)),
                bag(),
                float(random.integers(2)),
            )
            for _ in range(num_rows)
        )
    )


@pytest.fixture
def splits():
    sizes = {"train": 80, "valid": 15, "test": 25}
    return {name: random_rows(size, seed=size) for name, size in sizes.items()}


@pytest.fixture
def dataset(splits, monkeypatch):
    monkeypatch.setattr("dlrm.data.catalogue._ROWS_AT_A_TIME", 16)
    return InMemory(document_schema(), **splits)


def test_a_catalogue_holds_every_document_of_all_splits_once(dataset, splits):
    catalogue = build_catalogue(dataset, FEATURES)
    expected = {d for rows in splits.values() for d in documents_of(rows)}
    assert len(expected) < 120
    assert sorted(documents_of(catalogue.rows)) == sorted(expected)
    assert catalogue.features == FEATURES


def test_documents_are_counted_over_training_rows_with_weight(dataset, splits):
    splits["train"].weights[::3] = 0
    catalogue = build_catalogue(dataset, FEATURES)
    weighty = np.flatnonzero(splits["train"].weights)
    documents = documents_of(splits["train"])
    expected = Counter(documents[i] for i in weighty)
    for document, count in zip(
        documents_of(catalogue.rows), catalogue.counts, strict=True
    ):
        assert count == expected[document]


def test_documents_stand_in_order_of_the_keys_that_their_rows_have(dataset):
    catalogue = build_catalogue(dataset, FEATURES)
    schema = dataset.schema
    keys = DocumentKeys.of(schema, FEATURES)
    (batch,) = encoded_batches([catalogue.rows], schema, len(catalogue))
    assert keys(batch).tolist() == catalogue.keys.tolist() == sorted(catalogue.keys)
    parts = list(catalogue.batches(schema, 10))
    assert [len(part) for part in parts] == [
        *[10] * (len(catalogue) // 10),
        *[len(catalogue) % 10] * (len(catalogue) % 10 > 0),
    ]
    assert [k for part in parts for k in keys(part).tolist()] == keys(batch).tolist()


def test_a_documents_row_says_nothing_of_who_asked():
    rows = rows_of((5, 1, [3], 0.5), (6, 2, [], 0.25))
    found = _documents(rows, np.array([1, 0]), document_schema(), ("s1",))
    assert found.one_hot.tolist() == [[0, 2], [0, 1]]
    assert not found.dense.any()
    assert found.bag_values.size == found.bag_lengths.sum() == 0
    assert not found.labels.any()
    found = _documents(rows, np.array([1, 0]), document_schema(), FEATURES)
    assert documents_of(found) == documents_of(rows)[::-1]


def test_a_document_is_found_by_its_key_and_another_is_not(dataset, splits):
    catalogue = build_catalogue(dataset, FEATURES)
    keys = DocumentKeys.of(dataset.schema, FEATURES)
    test = keys(batch_of(splits["test"], dataset.schema)).numpy()
    known = documents_of(catalogue.rows)
    found = [known[place] for place in catalogue.places(test)]
    assert found == documents_of(splits["test"])
    strange = np.array([catalogue.keys[0] - 1, 5, catalogue.keys[-1] + 1])
    assert catalogue.places(strange).tolist() == [NOT_FOUND] * 3


def test_a_saved_catalogue_is_read_as_it_was(dataset, tmp_path):
    catalogue = build_catalogue(dataset, FEATURES)
    catalogue.save(tmp_path)
    found = Catalogue.load(tmp_path)
    assert found.features == FEATURES
    np.testing.assert_array_equal(found.keys, catalogue.keys)
    np.testing.assert_array_equal(found.counts, catalogue.counts)
    assert documents_of(found.rows) == documents_of(catalogue.rows)


def test_a_damaged_or_missing_catalogue_is_named(dataset, tmp_path):
    with pytest.raises(DatasetError, match=CATALOGUE_FILE):
        Catalogue.load(tmp_path)
    build_catalogue(dataset, FEATURES).save(tmp_path)
    whole = (tmp_path / CATALOGUE_FILE).read_bytes()
    (tmp_path / CATALOGUE_FILE).write_bytes(whole[:-8])
    with pytest.raises(DatasetError, match=f"{CATALOGUE_FILE} must hold.*train anew"):
        Catalogue.load(tmp_path)
