"""Any column may be a table, whatever torch calls its own attributes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local, to_plain
from dlrm.embeddings.names import module_name, table_name
from dlrm.embeddings.state import table_states
from tests.builders import random_batch, small_schema
from tests.embeddings.oracle import CPU

KEPT = [name for name in dir(nn.ModuleDict()) if "." not in name]
NAMES = [*KEPT, *(f"{name}_" for name in KEPT), "user", "user_", "item__", "_", "__"]


@pytest.mark.parametrize("name", ["type", "items", "values", "training", "__init__"])
def test_a_name_that_torch_keeps_gets_an_underscore(name):
    assert module_name(name) == f"{name}_"


def test_other_names_stay():
    assert [module_name(name) for name in ("user", "user_", "Type")] == [
        "user",
        "user_",
        "Type",
    ]


def test_every_name_can_be_held_and_comes_back():
    modules = [module_name(name) for name in NAMES]
    assert len(set(modules)) == len(set(NAMES))
    assert [table_name(module) for module in modules] == NAMES
    held = nn.ModuleDict({module: nn.Identity() for module in dict.fromkeys(modules)})
    assert len(held) == len(set(NAMES))


def test_tables_named_like_attributes_train_and_keep_their_names():
    schema = small_schema()
    names = ("type", "items", "type_")
    renamed = tuple(
        dataclasses.replace(fitted, name=name, table=name)
        for fitted, name in zip(schema.sparse, names, strict=True)
    )
    schema = dataclasses.replace(schema, sparse=renamed)
    embeddings = FeatureEmbeddings(schema)
    to_local(embeddings, optimizer=SparseOptimizer(), device=CPU)
    states = table_states(embeddings)
    assert set(states) == set(names)
    states["type"].weight.fill_(1.0)
    vectors = embeddings(random_batch(schema, num_rows=3).sparse)
    assert torch.equal(vectors[0], torch.ones(3, 4))
    assert torch.equal(vectors[2], torch.zeros(3, 4))
    to_plain(embeddings)
    again = embeddings(random_batch(schema, num_rows=3).sparse)
    assert torch.equal(again[0], vectors[0])
