"""Initial values: a function of seed, table, row key and column, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from tests.embeddings.oracle import CPU, plain_model, table

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
    InitialValues(seed, lambda _: init, lambda _: keys(num_rows)).fill(name, out)
    return out


@pytest.mark.parametrize("init", [UNIFORM, NORMAL])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 1), (10, 2), (49, 5)])
def test_a_shard_has_the_values_of_the_whole_table(init, row, column):
    whole = values(init)
    shard = torch.empty(50 - row, 6 - column)
    initial = InitialValues(0, lambda _: init, lambda _: keys(50))
    initial.fill("t", shard, start_row=row, start_column=column)
    assert torch.equal(shard, whole[row:, column:])


@pytest.mark.parametrize("init", [UNIFORM, NORMAL])
def test_chunks_do_not_show(init, monkeypatch):
    whole = values(init)
    monkeypatch.setattr("dlrm.embeddings.initial._WORDS_PER_CHUNK", 7)
    assert torch.equal(values(init), whole)


def test_a_wider_table_starts_with_the_narrow_ones_columns():
    assert torch.equal(values(UNIFORM, dim=9)[:, :5], values(UNIFORM, dim=5))


def test_a_row_keeps_its_values_when_its_vocabulary_grows_and_moves_it():
    old = np.array([11, 22, 33], dtype=np.uint64)
    new = np.array([44, 33, 11, 55, 22], dtype=np.uint64)
    before, after = torch.empty(3, 4), torch.empty(5, 4)
    InitialValues(0, lambda _: UNIFORM, lambda _: old).fill("t", before)
    InitialValues(0, lambda _: UNIFORM, lambda _: new).fill("t", after)
    assert torch.equal(after[[2, 4, 1]], before)


def test_seed_table_row_and_column_each_change_the_values():
    base = values(UNIFORM)
    assert not (values(UNIFORM, seed=1) == base).any()
    assert not (values(UNIFORM, name="u") == base).any()
    assert len(base.unique()) == base.numel()


def test_the_caller_keeps_its_row_keys():
    mine = keys(5)
    InitialValues(0, lambda _: UNIFORM, lambda _: mine).fill("t", torch.empty(5, 2))
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
    initial = InitialValues(0, lambda _: UNIFORM, lambda _: keys(3))
    with pytest.raises(ValueError, match="each of its 4 rows .* has 3 row keys"):
        initial.fill("t", torch.empty(4, 2))


def test_to_local_starts_every_table_from_its_own_keys():
    model = plain_model([table("t", 5, 4, ["a"]), table("u", 3, 5, ["b"])])
    sizes = {"t": 5, "u": 3}
    initial = InitialValues(3, lambda _: NORMAL, lambda name: keys(sizes[name]))
    to_local(model, optimizer=SparseOptimizer(), device=CPU, initial=initial)
    for name, (rows, dim) in {"t": (5, 4), "u": (3, 5)}.items():
        got = model.state_dict()[f"bags.embedding_bags.{name}.weight"]
        assert torch.equal(got, values(NORMAL, rows, dim, seed=3, name=name))
