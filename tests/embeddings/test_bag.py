"""EmbeddingBag: the forms of its input, its options and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.errors import ConfigError, DataError
from dlrm.embeddings.bag import EmbeddingBag
from tests.embeddings.oracle import keyed_bags

ROWS = torch.arange(14.0).view(7, 2)
LISTS = [[1, 1, 4], [], [0, 6]]
VALUES = torch.tensor([1, 1, 4, 0, 6])
OFFSETS = torch.tensor([0, 3, 3])
SUMS = torch.stack([2 * ROWS[1] + ROWS[4], 0 * ROWS[0], ROWS[0] + ROWS[6]])
WEIGHTS = torch.tensor([2.0, -1.0, 0.5, 1.0, 3.0])
WEIGHTED = torch.stack([ROWS[1] + 0.5 * ROWS[4], 0 * ROWS[0], ROWS[0] + 3 * ROWS[6]])


def bag(**options: object) -> EmbeddingBag:
    return EmbeddingBag(7, 2, **{"mode": "sum", "_weight": ROWS.clone(), **options})


def arrow_lists() -> pd.Series:
    lists = pa.array([[1, 1, 4], None, [0, 6]], type=pa.list_(pa.int64()))
    return pd.Series(lists, dtype=pd.ArrowDtype(lists.type))


@pytest.mark.parametrize(
    "bags",
    [
        pytest.param(LISTS, id="lists of lists"),
        pytest.param(((1, 1, 4), (), (0, 6)), id="tuples"),
        pytest.param([np.array([1, 1, 4]), None, torch.tensor([0, 6])], id="arrays"),
        pytest.param(pd.Series(LISTS, index=[5, 3, 3]), id="a pandas column"),
        pytest.param(pd.Series([[1, 1, 4], None, [0, 6]]), id="a missing list"),
        pytest.param(arrow_lists(), id="a column of Arrow's"),
        pytest.param(keyed_bags({"f": LISTS}), id="one key"),
        pytest.param(keyed_bags({"f": LISTS})["f"], id="jagged"),
    ],
)
def test_lists_of_every_kind_are_bags(bags):
    assert torch.equal(bag()(bags), SUMS)


@pytest.mark.parametrize("ids", [VALUES, VALUES.int(), VALUES.numpy(), VALUES.tolist()])
def test_ids_in_a_row_are_cut_by_offsets_or_lengths(ids):
    assert torch.equal(bag()(ids, OFFSETS), SUMS)
    assert torch.equal(bag()(ids, OFFSETS.numpy()), SUMS)
    assert torch.equal(bag()(ids, lengths=[3, 0, 2]), SUMS)
    with_last = bag(include_last_offset=True)
    assert torch.equal(with_last(ids, [0, 3, 3, 5]), SUMS)


def test_padded_rows_count_up_to_their_length_or_without_their_padding_id():
    rows = torch.tensor([[1, 1, 4], [5, 5, 5], [0, 6, 5]])
    lengths = torch.tensor([3, 0, 2])
    assert torch.equal(bag()(rows, lengths=lengths), SUMS)
    assert torch.equal(bag(padding_idx=5)(rows), SUMS)
    assert torch.equal(bag(padding_idx=-2)(rows.numpy()), SUMS)
    assert torch.equal(bag()(rows), ROWS[rows].sum(1))


def test_weights_come_in_the_form_of_the_ids():
    lists = [[2, -1.0, 0.5], [], [1, 3]]
    assert torch.equal(bag()(VALUES, OFFSETS, WEIGHTS), WEIGHTED)
    assert torch.equal(bag()(LISTS, None, lists), WEIGHTED)
    assert torch.equal(bag()(LISTS, None, WEIGHTS), WEIGHTED)
    assert torch.equal(bag()(pd.Series(LISTS), None, pd.Series(lists)), WEIGHTED)
    rows = torch.tensor([[1, 1, 4], [5, 5, 5], [0, 6, 5]])
    factors = torch.tensor([[2, -1, 0.5], [9, 9, 9], [1, 3, 9]])
    assert torch.equal(bag(padding_idx=5)(rows, None, factors), WEIGHTED)
    keyed = KeyedJaggedTensor(
        keys=["f"], values=VALUES, weights=WEIGHTS, lengths=torch.tensor([3, 0, 2])
    )
    assert torch.equal(bag()(keyed), WEIGHTED)


def test_no_bags_give_no_vectors():
    for mode in ("sum", "mean", "max", "sqrtn", "attention"):
        assert bag(mode=mode)([]).shape == (0, 2)
        assert bag(mode=mode)(VALUES[:0], OFFSETS[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((VALUES, [1, 3]), "start at 0, .* they start at 1"),
        ((VALUES, [0, 4, 2]), "do not descend .* bag 1 goes from 4 to 2"),
        ((VALUES, [0, 9]), "within the 5 ids, but they end at 9"),
        ((VALUES, [0.0, 1.0]), "whole numbers .* float32 of shape"),
        ((VALUES, []), "but there are none"),
        ((VALUES, None, None, [3, 4]), "within the 5 ids, but they end at 7"),
        ((VALUES.float(), OFFSETS), "whole numbers, .* float32, such as 1.0"),
        (([[1, 2.5]],), "whole numbers, .* float32, such as 1.0"),
        (([[True]],), "whole numbers, .* bool"),
        (([[1], ["x"]],), "plain numbers"),
        (([[1], 3],), "row 1 is 3. For ids in a row, give offsets"),
        (([[1], [2, 7]],), "0 to 6, but in row 1, place 1 there is 7"),
        (([[1], [], [-1]],), "0 to 6, but in row 2, place 0 there is -1"),
        ((torch.zeros(1, 2, 3).long(),), r"Tensor of shape \(1, 2, 3\)"),
        ((VALUES,), r"offsets or lengths, .* Tensor of shape \(5,\)"),
        ((LISTS, OFFSETS), "offsets must be left out where the bags are lists"),
        ((VALUES[None], OFFSETS), "offsets must be left out .* padded rows"),
        ((VALUES[None], None, None, [6]), r"numbers from 0 to 5, .* \[6\]"),
        ((VALUES[None], None, WEIGHTS), r"ids' shape \(1, 5\), .* \(5,\)"),
        ((VALUES, OFFSETS, WEIGHTS[:4]), r"one weight an id, 5 .* \(4,\)"),
        ((VALUES, OFFSETS, VALUES), "floating-point .* int64"),
        ((LISTS, None, [[1.0], [], [2.0, 3.0]]), "as long .* row 0 has others"),
        ((keyed_bags({"f": LISTS, "g": LISTS}),), r"one key, .*\['f', 'g'\]"),
        ((keyed_bags({"f": LISTS}), OFFSETS), "offsets must be left out"),
        (("ids",), "they are a str"),
    ],
)
def test_input_that_is_no_bags_is_refused(inputs, message):
    ids, offsets, weights, lengths = (*inputs, None, None, None)[:4]
    with pytest.raises(DataError, match=message):
        bag()(ids, offsets, weights, lengths=lengths)


def test_offsets_with_the_last_one_must_end_at_the_number_of_ids():
    with pytest.raises(DataError, match="end at 4, although include_last_offset"):
        bag(include_last_offset=True)(VALUES, [0, 3, 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "median"}, "mode must be one of sum, mean, max, .* it is median"),
        ({"max_norm": 0.0}, "max_norm must be above 0, but it is 0.0"),
        ({"norm_type": -1.0}, "norm_type must be above 0, but it is -1.0"),
        ({"padding_idx": 7}, "padding_idx must be from -7 to 6, but it is 7"),
        ({"_weight": ROWS[:3]}, r"shape \(7, 2\), .* \(3, 2\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        bag(**options)


def test_a_new_table_is_normal_with_a_padding_row_of_zeros():
    torch.manual_seed(0)
    weight = EmbeddingBag(200, 50, padding_idx=3).weight
    assert not weight[3].any()
    assert abs(float(weight.std()) - 1) < 0.05


def test_state_dicts_are_torchs():
    theirs = nn.EmbeddingBag(7, 2, mode="sum")
    ours = bag()
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours(LISTS), theirs(VALUES, OFFSETS))


def test_pretrained_rows_are_frozen_unless_asked_otherwise():
    frozen = EmbeddingBag.from_pretrained(ROWS.clone(), mode="max", max_norm=1.0)
    assert not frozen.weight.requires_grad
    frozen(LISTS)
    assert torch.equal(frozen.weight, ROWS)
    assert EmbeddingBag.from_pretrained(ROWS, freeze=False).weight.requires_grad
    with pytest.raises(ConfigError, match=r"embeddings must be a matrix, .* \(14,\)"):
        EmbeddingBag.from_pretrained(ROWS.flatten())


def test_evaluation_rescales_values_but_leaves_the_stored_rows():
    trained, evaluated = bag(max_norm=1.0), bag(max_norm=1.0).eval()
    expected = trained(LISTS)
    torch.testing.assert_close(evaluated(LISTS), expected)
    assert torch.equal(evaluated.weight, ROWS)
    assert float(trained.weight[6].detach().norm()) < 1.001


def test_a_row_is_divided_by_its_own_uses_and_no_other_rows():
    module = bag(scale_grad_by_freq=True)
    module([[1, 1], [1, 3]]).sum().backward()
    assert module.weight.grad[:, 0].tolist() == [0, 1, 0, 1, 0, 0, 0]


def test_a_sparse_gradient_holds_the_rows_in_use_alone():
    for mode in ("mean", "max", "attention"):
        module = bag(mode=mode, sparse=True, scale_grad_by_freq=True, padding_idx=4)
        module([[1, 4], [5]]).sum().backward()
        gradient = module.weight.grad.coalesce()
        assert gradient.indices().tolist() == [[1, 5]]


def test_repr_shows_sizes_and_what_is_set():
    shown = repr(bag(max_norm=1.5, sparse=True))
    assert shown == "EmbeddingBag(7, 2, max_norm=1.5, sparse=True, mode=sum)"


def test_the_example_of_the_page_on_bags_runs():
    page = (Path(__file__).parents[2] / "docs" / "bags.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("```python\n")
    code, _, _ = rest.partition("```")
    exec(compile(code, "docs/bags.md", "exec"), {})
