"""A table starts from vectors under raw keys; what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dlrm.commands.train import train
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError, DataError, UserError
from dlrm.embeddings.state import table_states
from dlrm.trainer import Trainer
from tests.runs import digest
from tests.warm_start.growing import (
    SETTINGS,
    again,
    item_rows,
    rows_of,
    trainer_of,
    write_preset,
)

ITEMS = {f"item{i}": 12 - i for i in range(8)}
FROZEN = "tables.item.frozen=true"


@pytest.fixture(autouse=True)
def _preset(workdir: Path) -> None:
    write_preset(workdir)


def vectors_of(keys: list, dim: int = 4) -> dict[str, list[float]]:
    random = np.random.default_rng(3)
    return {key: random.normal(size=dim).astype(np.float32).tolist() for key in keys}


def write(vectors: dict, path: str = "vectors.parquet") -> str:
    frame = pd.DataFrame({"key": list(vectors), "vector": list(vectors.values())})
    frame.to_parquet(path)
    return path


def begun(path: str, *extra: str, table: str = "item") -> tuple[Trainer, list[str]]:
    option = f"tables.{table}.pretrained.path={path}"
    trainer, lines = trainer_of(rows_of(ITEMS), "new", option, *extra)
    trainer.begin()
    return trainer, lines


def weight(trainer: Trainer, table: str = "item") -> torch.Tensor:
    return table_states(trainer.learner.model)[table].weight


def test_rows_get_the_vectors_of_their_keys_and_the_others_stay():
    vectors = vectors_of(["item5", "item1", "elsewhere"])
    trainer, lines = begun(write(vectors))
    fresh, _ = trainer_of(rows_of(ITEMS), "fresh")
    rows = item_rows(trainer.run)
    for key, row in rows.items():
        wanted = vectors.get(key, weight(fresh)[row].tolist())
        assert weight(trainer)[row].tolist() == wanted
    assert lines == [
        "vectors item: 2 of 9 rows from vectors.parquet; 7 rows without a vector; "
        "1 of 3 keys without a row"
    ]
    assert trainer.run.manifest()["pretrained"][0]["num_filled"] == 2


def test_frozen_vectors_are_not_trained_and_others_are():
    path = write(vectors_of(list(ITEMS)))
    for extra, changes in (((FROZEN,), False), ((), True)):
        trainer, lines = begun(path, *extra, f"output=out{changes}")
        start = weight(trainer).clone()
        trainer.fit()
        assert torch.equal(weight(trainer), start) != changes
        assert ("frozen" in lines[0]) != changes


def test_a_path_may_hold_any_characters(workdir: Path):
    name = "vectors, ${of} [items]=1 'best'.parquet"
    write(vectors_of(list(ITEMS)), name)
    trainer, _ = begun(name)
    assert trainer.run.config.tables["item"].pretrained.path == name
    again(trainer.run).begin()


@pytest.mark.parametrize(
    ("table", "keys", "rows"),
    [
        # Whole numbers are one text, whatever type the column has.
        ("slot", [3, 0, 17], [3, 0]),
        ("slot", [3.0, 0.0, 17.5], [3, 0]),
        # 20 and 40 are the boundaries; null is for missing values.
        ("age", ["19.5", "[20.0, 40.0)", "40", None], [1, 2, 3, 0]),
        ("item", ["item0", None], [1, 0]),
    ],
)
def test_keys_are_raw_values_as_the_feature_encodes_them(
    table: str, keys: list, rows: list[int]
):
    vectors = vectors_of(keys)
    trainer, _ = begun(write(vectors), table=table)
    found = weight(trainer, table)
    for key, row in zip(keys, rows, strict=False):
        assert found[row].tolist() == vectors[key]


def test_keys_that_share_a_hashed_row_give_it_their_mean():
    import pyarrow as pa

    from dlrm.data.transforms.hashing import hash_texts

    keys = [str(number) for number in range(12)]
    vectors = vectors_of(keys)
    trainer, _ = begun(write(vectors), table="shop")
    rows = (hash_texts(pa.array(keys)) % np.uint64(6)).astype(int)
    for row in set(rows):
        own = [vectors[key] for key, its in zip(keys, rows, strict=True) if its == row]
        wanted = np.mean(np.array(own, dtype=np.float64), axis=0)
        np.testing.assert_allclose(weight(trainer, "shop")[row], wanted, rtol=1e-6)


def test_npy_is_read_in_row_order():
    rows = np.random.default_rng(0).normal(size=(9, 4))
    np.save("vectors.npy", rows)
    trainer, lines = begun("vectors.npy")
    assert torch.equal(weight(trainer), torch.from_numpy(rows).float())
    assert "9 of 9 rows" in lines[0]


def test_padding_stays_zero_whatever_the_file_says():
    np.save("vectors.npy", np.ones((9, 4)))
    trainer, _ = begun("vectors.npy", "tables.item.padding_idx=-1")
    assert (weight(trainer)[8] == 0).all()
    assert (weight(trainer)[:8] == 1).all()


def test_a_stopped_run_goes_on_without_the_file():
    path = write(vectors_of(list(ITEMS)))
    extra = ("trainer.max_steps=3",)
    whole, _ = begun(path, *extra, "output=whole")
    whole.fit()
    stopped, _ = begun(path, *extra, "output=stopped")
    Path(path).unlink()
    resumed = again(stopped.run)
    resumed.fit()
    last = "step_000000003"
    assert digest(resumed.run.checkpoints / last) == digest(
        whole.run.checkpoints / last
    )


def test_rows_of_an_old_run_win_over_the_file():
    old, _ = trainer_of(rows_of(ITEMS), "old", "trainer.max_steps=2")
    old.fit()
    path = write(vectors_of([*ITEMS, "item9"]))
    grown = {**ITEMS, "item9": 20}
    trainer, lines = trainer_of(
        rows_of(grown),
        "new",
        f"tables.item.pretrained.path={path}",
        "init_from=outputs/old",
    )
    trainer.begin()
    was, now = item_rows(old.run), item_rows(trainer.run)
    for key in ITEMS:
        assert torch.equal(weight(trainer)[now[key]], weight(old)[was[key]])
    given = vectors_of([*ITEMS, "item9"])["item9"]
    assert weight(trainer)[now["item9"]].tolist() == given
    assert lines[0].startswith("vectors item: 9 of 10 rows")


def _write_text() -> str:
    Path("vectors.txt").write_text("item0 1 2 3 4\n")
    return "vectors.txt"


def _write_npy(shape: tuple[int, ...]) -> str:
    np.save("vectors.npy", np.ones(shape))
    return "vectors.npy"


GOOD = [1.0, 2.0, 3.0, 4.0]
REFUSED = {
    "missing": (lambda: "none.parquet", ConfigError, "path must name .* none.parquet"),
    "neither format": (_write_text, DataError, "vectors.txt is neither"),
    "narrow": (
        lambda: write({"item0": GOOD, "item1": GOOD[:3]}), DataError,
        r"must hold 4 numbers a row, .* key 'item1' \(row 1\) of .* has 3 in 'vector'",
    ),
    "not a number": (
        lambda: write({"item0": GOOD, "item1": [1.0, float("nan"), 0.0, 0.0]}),
        DataError, r"finite numbers, but the vector of key 'item1' \(row 1\)",
    ),
    "too large": (
        lambda: write({"item0": [1e39, 0.0, 0.0, 0.0]}), DataError, "finite numbers",
    ),
    "no vector": (
        lambda: write({"item0": GOOD, "item1": None}), DataError, "has 0 in 'vector'",
    ),
    "no lists": (
        lambda: write({"item0": 1.0}), DataError, "lists of 4 numbers, .* double",
    ),
    "narrow npy": (
        lambda: _write_npy((9, 3)), DataError, r"4 wide, .* float64 \[9, 3\]",
    ),
    "short npy": (
        lambda: _write_npy((5, 4)), DataError,
        r"row order, but vectors.npy holds 5 and the table has 9 rows",
    ),
    "other keys": (
        lambda: write({None: GOOD, "a": GOOD, "b": GOOD}), DataError,
        "none of the 2 keys .* begin with 'a', 'b'; the table's with 'item0', 'item1'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused_and_leaves_no_run(
    case: str, workdir: Path
):
    make, error, message = REFUSED[case]
    option = f"tables.item.pretrained.path={make()}"
    with pytest.raises(error, match=message) as caught:
        train(
            *SETTINGS, option, "model.embedding_dim=4", frame={"train": rows_of(ITEMS)}
        )
    assert "tables.item.pretrained." in str(caught.value)
    assert list(Path("outputs").glob("*")) == []


def test_a_key_that_comes_twice_is_refused():
    frame = pd.DataFrame({"key": [7, 3, 7], "vector": [GOOD, GOOD, GOOD]})
    frame.to_parquet("vectors.parquet")
    with pytest.raises(DataError, match=r"each key once, but .* '7' 2 times in 'key'"):
        begun("vectors.parquet", table="slot")


@pytest.mark.parametrize("setting", ["key_column", "vector_column"])
def test_a_column_that_is_not_there_is_refused_with_a_near_one(setting: str):
    path = write(vectors_of(list(ITEMS)))
    typo = {"key_column": "kye", "vector_column": "vectr"}[setting]
    near = {"key_column": "key", "vector_column": "vector"}[setting]
    with pytest.raises(ConfigError, match=f"'{typo}'. Did you mean {near}?") as caught:
        begun(path, f"tables.item.pretrained.{setting}={typo}")
    assert f"tables.item.pretrained.{setting} must name a column" in str(caught.value)


def test_numbers_beyond_a_tables_type_are_refused():
    path = write({"item0": [1e6, 0.0, 0.0, 0.0]})
    with pytest.raises(
        DataError, match=r"torch.float16, but vectors.parquet holds larger"
    ):
        begun(path, "tables.item.dtype=float16")


def test_a_compressed_table_takes_no_vectors():
    with pytest.raises(UserError, match=r"tables.item.pretrained.path must be unset"):
        compose(
            [
                *SETTINGS,
                "tables.item.compression.method=quotient_remainder",
                "tables.item.pretrained.path=vectors.parquet",
            ]
        )
