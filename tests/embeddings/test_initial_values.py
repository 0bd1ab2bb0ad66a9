"""Initial values: a function of seed, table, row key and column, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.table_options import TableDtype, TableOptions
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from tests.embeddings.oracle import CPU, plain_model, row_table, table

UNIFORM = EmbeddingInit(scale=0.5)
NORMAL = EmbeddingInit(name=InitName.normal, scale=0.5)


def keys(num_rows: int) -> np.ndarray:
    return np.arange(num_rows, dtype=np.uint64) * np.uint64(7) + np.uint64(2**63)


def values(
    init: EmbeddingInit,
    num_rows: int = 50,
    dim: int = 6,
    *,
    seed: int = 0,
    name: str = "t",
) -> torch.Tensor:
    out = torch.empty(num_rows, dim)
    config = table(name, num_rows, dim, ["f"])
    InitialValues(seed, init, lambda _: keys(num_rows)).fill(config, out)
    return out


@pytest.mark.parametrize("init", [UNIFORM, NORMAL])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 1), (10, 2), (49, 5)])
def test_a_shard_has_the_values_of_the_whole_table(init, row, column):
    whole = values(init)
    shard = torch.empty(50 - row, 6 - column)
    initial = InitialValues(0, init, lambda _: keys(50))
    initial.fill(table("t", 50, 6, ["f"]), shard, start_row=row, start_column=column)
    assert torch.equal(shard, whole[row:, column:])


@pytest.mark.parametrize("init", [UNIFORM, NORMAL])
def test_chunks_do_not_show(init, monkeypatch):
    whole = values(init)
    monkeypatch.setattr("dlrm.embeddings.initial._WORDS_PER_CHUNK", 7)
    assert torch.equal(values(init), whole)


@pytest.mark.parametrize("init", [UNIFORM, NORMAL])
def test_threads_do_not_show(init, monkeypatch):
    whole = values(init)
    monkeypatch.setattr("dlrm.embeddings.initial._LARGE_WORDS", 0)
    monkeypatch.setattr("dlrm.embeddings.initial._WORDS_PER_THREADS_CHUNK", 9)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(values(init), whole)


def test_a_wider_table_starts_with_the_narrow_ones_columns():
    assert torch.equal(values(UNIFORM, dim=9)[:, :5], values(UNIFORM, dim=5))


def test_a_row_keeps_its_values_when_its_vocabulary_grows_and_moves_it():
    old = np.array([11, 22, 33], dtype=np.uint64)
    new = np.array([44, 33, 11, 55, 22], dtype=np.uint64)
    before, after = torch.empty(3, 4), torch.empty(5, 4)
    InitialValues(0, UNIFORM, lambda _: old).fill(table("t", 3, 4, ["f"]), before)
    InitialValues(0, UNIFORM, lambda _: new).fill(table("t", 5, 4, ["f"]), after)
    assert torch.equal(after[[2, 4, 1]], before)


def test_seed_table_row_and_column_each_change_the_values():
    base = values(UNIFORM)
    assert not (values(UNIFORM, seed=1) == base).any()
    assert not (values(UNIFORM, name="u") == base).any()
    assert len(base.unique()) == base.numel()


def test_the_caller_keeps_its_row_keys():
    mine = keys(5)
    config = table("t", 5, 2, ["f"])
    InitialValues(0, UNIFORM, lambda _: mine).fill(config, torch.empty(5, 2))
    np.testing.assert_array_equal(mine, keys(5))


def test_uniform_values_fill_their_interval_evenly():
    drawn = values(UNIFORM, 20_000, 10).double()
    assert drawn.min() >= -0.5
    assert drawn.max() < 0.5
    counts = torch.histc(drawn.float(), bins=20, min=-0.5, max=0.5)
    # 200,000 draws in 20 bins: one standard deviation of a count is 97.
    assert (counts - 10_000).abs().max() < 5 * 97


def test_normal_values_have_their_moments_in_even_and_odd_columns():
    drawn = values(NORMAL, 20_000, 10).double() / 0.5
    for part in (drawn[:, 0::2], drawn[:, 1::2]):
        assert part.mean().abs() < 5 / 100_000**0.5
        assert (part.var() - 1).abs() < 5 * (2 / 100_000) ** 0.5
        assert ((part**4).mean() - 3).abs() < 5 * (96 / 100_000) ** 0.5
    pairs = (drawn[:, 0::2] * drawn[:, 1::2]).mean()
    assert pairs.abs() < 5 / 100_000**0.5


def test_neighbouring_keys_and_columns_are_uncorrelated():
    drawn = values(UNIFORM, 20_000, 10).double()
    variance = 0.25 / 3
    rows = (drawn[1:] * drawn[:-1]).mean() / variance
    columns = (drawn[:, 1:] * drawn[:, :-1]).mean() / variance
    assert rows.abs() < 5 / 200_000**0.5
    assert columns.abs() < 5 / 180_000**0.5


def test_the_default_scale_is_one_over_the_root_of_the_rows():
    torch.testing.assert_close(
        values(EmbeddingInit(), 400), values(EmbeddingInit(scale=0.05), 400)
    )


def test_missing_row_keys_are_refused():
    initial = InitialValues(0, UNIFORM, lambda _: keys(3))
    with pytest.raises(ValueError, match="each of its 4 rows .* has 3 row keys"):
        initial.fill(table("t", 4, 2, ["f"]), torch.empty(4, 2))


def test_to_local_starts_every_table_from_its_own_keys():
    model = plain_model([table("t", 5, 4, ["a"]), table("u", 3, 5, ["b"])])
    sizes = {"t": 5, "u": 3}
    initial = InitialValues(3, NORMAL, lambda name: keys(sizes[name]))
    to_local(model, optimizer=SparseOptimizer(), device=CPU, initial=initial)
    for name, (rows, dim) in {"t": (5, 4), "u": (3, 5)}.items():
        got = model.state_dict()[f"bags.embedding_bags.{name}.weight"]
        assert torch.equal(got, values(NORMAL, rows, dim, seed=3, name=name))


def test_a_table_of_its_own_initialiser_type_and_vocabulary_starts_by_them():
    options = TableOptions(init=NORMAL, dtype=TableDtype.float16)
    config = table("t/linear", 5, 4, ["a"], options=options)
    config.vocabulary = "t"
    asked = []

    def row_keys(vocabulary: str) -> np.ndarray:
        asked.append(vocabulary)
        return keys(5)

    out = torch.empty(5, 4, dtype=torch.float16)
    InitialValues(0, UNIFORM, row_keys).fill(config, out)
    assert asked == ["t"]
    assert torch.equal(out, values(NORMAL, 5, 4, name="t/linear").half())


@pytest.mark.parametrize("make", [table, row_table])
@pytest.mark.parametrize("padding", [1, -4])
def test_the_padding_row_starts_at_zero_and_the_others_as_without_it(make, padding):
    options = TableOptions(padding_idx=padding)
    model = plain_model([make("t", 5, 4, ["a"], options=options)])
    initial = InitialValues(0, UNIFORM, lambda _: keys(5))
    to_local(model, optimizer=SparseOptimizer(), device=CPU, initial=initial)
    (got,) = model.state_dict().values()
    expected = values(UNIFORM, 5, 4)
    expected[1] = 0.0
    assert torch.equal(got, expected)


def test_a_shard_zeroes_the_padding_row_where_it_holds_it():
    config = table("t", 5, 4, ["a"], options=TableOptions(padding_idx=3))
    initial = InitialValues(0, UNIFORM, lambda _: keys(5))
    for start in range(5):
        shard = torch.empty(2 if start < 4 else 1, 4)
        initial.fill(config, shard, start_row=start)
        zero = [start + i for i in range(len(shard)) if not shard[i].any()]
        assert zero == [3] * (start <= 3 < start + len(shard))
