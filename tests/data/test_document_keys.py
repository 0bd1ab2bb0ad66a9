from __future__ import annotations

import dataclasses

import torch

from dlrm.data.document_keys import DocumentKeys
from tests.builders import random_batch, small_schema
from tests.data.documents import FEATURES, batch_of, document_schema, rows_of


def keys_of(*rows):
    schema = document_schema()
    return DocumentKeys.of(schema, FEATURES)(batch_of(rows_of(*rows), schema)).tolist()


def test_rows_of_one_document_have_one_key_whatever_their_queries_are():
    first, second = keys_of((0, 1, [3, 4], 0.5), (6, 1, [3, 4], 0.5))
    assert first == second


def test_the_order_of_a_bag_says_nothing_and_the_number_of_its_ids_does():
    one, same, other = keys_of(
        (0, 1, [3, 4], 0), (0, 1, [4, 3], 0), (0, 1, [3, 4, 4], 0)
    )
    assert one == same
    assert one != other


def test_every_part_of_a_document_counts():
    keys = keys_of(
        (0, 1, [3], 0.5),
        (0, 2, [3], 0.5),
        (0, 1, [4], 0.5),
        (0, 1, [], 0.5),
        (0, 1, {3: 2.0}, 0.5),
        (0, 1, [3], -0.5),
    )
    assert len(set(keys)) == len(keys)


def test_an_id_of_one_feature_is_not_that_of_another():
    schema = small_schema(num_dense=0, widths=(4, 4, 4))
    batch = random_batch(schema, num_rows=64)
    names = ("s0", "s1")
    pairs = {
        tuple(int(batch.sparse["pooled"][n].values()[i]) for n in names)
        for i in range(64)
    }
    assert {(1, 2), (2, 1)} & pairs
    assert len(set(DocumentKeys.of(schema, names)(batch).tolist())) == len(pairs)


def test_zero_and_minus_zero_are_one_number():
    first, second = keys_of((0, 1, [3], 0.0), (0, 1, [3], -0.0))
    assert first == second


def test_keys_are_those_of_splitmix64():
    """Known output of the reference generator, whose state starts at 0."""
    from dlrm.data.document_keys import _mix

    assert _mix(torch.zeros(1, dtype=torch.int64)).item() % 2**64 == 0xE220A8397B1DCDAF


def test_a_feature_counts_though_other_groups_hold_it():
    schema = document_schema()
    assert set(schema.groups) == {"pooled", "weighted"}
    keys = DocumentKeys.of(schema, FEATURES)
    assert keys.groups == (("pooled", "s1"), ("weighted", "s2"))
    assert keys.dense_columns == (1,)
    assert dataclasses.replace(keys, dense_columns=()) != keys
