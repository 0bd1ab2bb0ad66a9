"""docs/embeddings.md says of every option, on every backend, what the tests show."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch

from dlrm.config.table_options import TableOptions
from tests.embeddings.sharded.matrix import OWN_OPTIONS, TORCH_ARGUMENTS
from tests.embeddings.sharded.page import BACKENDS, BEGIN, PAGE, render, rows
from tests.embeddings.sharded.test_options import BY_NAME, SHARDED

TESTS = Path(__file__).parents[2]


def test_the_page_is_what_the_tests_show():
    generated = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    assert generated[1] + generated[2] == render(), (
        "docs/embeddings.md is not what the tests show: write it anew with "
        "python -m tests.embeddings.sharded.page"
    )


@pytest.mark.parametrize("module", [torch.nn.Embedding, torch.nn.EmbeddingBag])
def test_every_argument_of_torchs_modules_has_a_row(module: type[torch.nn.Module]):
    for function in (module.__init__, module.forward):
        names = set(inspect.signature(function).parameters) - {"self"}
        assert names <= TORCH_ARGUMENTS.keys()


def test_no_argument_has_a_row_that_torch_does_not_have():
    modules = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    functions = [f for m in modules for f in (m.__init__, m.forward)]
    known = {name for f in functions for name in inspect.signature(f).parameters}
    assert TORCH_ARGUMENTS.keys() == known - {"self"}


def test_every_option_of_a_table_has_a_row():
    fields = {field.name for field in dataclasses.fields(TableOptions)}
    assert OWN_OPTIONS.keys() == fields


def test_every_row_that_is_pointed_at_exists():
    names = {row.name for row in rows()}
    for groups in (TORCH_ARGUMENTS, OWN_OPTIONS):
        assert {name for members in groups.values() for name in members} <= names


def test_every_cell_holds_either_a_test_that_exists_or_a_refusal():
    text = "".join(file.read_text("utf-8") for file in TESTS.rglob("test_*.py"))
    ids = {f"[{name}]" for name in BY_NAME}
    ids |= {f"[{name}-{strategy.value}]" for name, strategy in SHARDED}
    for row in rows():
        assert row.works.keys() | row.refused.keys() == set(BACKENDS)
        assert not row.works.keys() & row.refused.keys()
        for test in row.works.values():
            assert test in ids or f"def {test}(" in text
