"""Vectors of a checkpoint are those of lookups; the nearest are nearest by cosine."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from dlrm.commands.embeddings import main as embeddings
from dlrm.commands.embeddings import nearest, table_vectors
from dlrm.config.errors import ConfigError
from dlrm.embeddings.state import table_states
from dlrm.trainer import Trainer
from tests.warm_start.growing import item_rows, rows_of, trainer_of, write_preset

MOVIES = {
    "Toy Story 2 (1999)": 6,
    "Toy Story (1995)": 9,
    "Toys (1992)": 5,
    "Se7en_[a*b]": 7,
    "It": 4,
}


@pytest.fixture
def trainer(workdir) -> Trainer:
    return trained()


def trained(*extra: str) -> Trainer:
    from pathlib import Path

    if not Path("conf").exists():
        write_preset(Path())
    trainer, _ = trainer_of(rows_of(MOVIES), "run", "trainer.max_steps=2", *extra)
    trainer.fit()
    return trainer


def weight(trainer: Trainer, table: str = "item") -> np.ndarray:
    return table_states(trainer.learner.model)[table].weight.numpy()


def test_nearest_rows_are_those_of_the_greatest_cosine(trainer: Trainer):
    rows, found = weight(trainer).astype(np.float64), item_rows(trainer.run)
    query = found["It"]
    cosines = {
        row: rows[row]
        @ rows[query]
        / np.linalg.norm(rows[row])
        / np.linalg.norm(rows[query])
        for row in range(len(rows))
        if row != query
    }
    answer = nearest("outputs/run", "item", "It", top=3)
    wanted = sorted(cosines, key=cosines.__getitem__, reverse=True)[:3]
    assert answer["row"].tolist() == wanted
    assert answer["cosine"].tolist() == pytest.approx([cosines[row] for row in wanted])
    names = {row: key for key, row in found.items()} | {0: "(unknown values)"}
    assert answer["key"].tolist() == [names[row] for row in wanted]


def test_a_text_that_begins_keys_stands_for_the_commonest_and_says_so(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
):
    assert embeddings(["run=outputs/run", "table=item", "near=Toy Story", "top=2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        "No row is called 'Toy Story': took 'Toy Story (1995)', which begins so; so "
        "do 'Toy Story 2 (1999)'."
    )
    assert printed[1].startswith("Nearest to 'Toy Story (1995)' (row 1) in table item")
    assert printed[3].split() == ["cosine", "key", "row", "count"]
    assert len(printed) == 6


def test_a_key_is_text_whatever_characters_it_holds(trainer: Trainer):
    assert len(nearest("outputs/run", "item", "Se7en_[a*b]")) == 5
    assert len(nearest("outputs/run", "item", "Se7en_")) == 5
    with pytest.raises(ConfigError, match=r"'Se7en_.a' has none"):
        nearest("outputs/run", "item", "Se7en_.a")


def test_an_unknown_key_is_refused_with_those_that_hold_or_resemble_it(
    trainer: Trainer,
):
    with pytest.raises(ConfigError, match=r"Keys that hold it: 'Toy Story \(1995\)'"):
        nearest("outputs/run", "item", "story")
    with pytest.raises(
        ConfigError, match=r"'Tosy \(1992\)' has none. Did you mean Toys"
    ):
        nearest("outputs/run", "item", "Tosy (1992)")


@pytest.mark.parametrize(
    ("table", "near", "row"),
    [("slot", "3", 3), ("age", "25", 2), ("age", "[40.0, inf)", 3)],
)
def test_keys_go_through_the_features_encoding(
    trainer: Trainer, table: str, near: str, row: int
):
    answer = nearest("outputs/run", table, near, top=99)
    assert row not in answer["row"].tolist()
    assert len(answer) == len(weight(trainer, table)) - 1


def test_a_hashed_key_says_that_others_share_its_row(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
):
    embeddings(["run=outputs/run", "table=shop", "near=12"])
    assert "'12' shares row" in capsys.readouterr().out


@pytest.mark.parametrize("table", ["item", "slot", "age"])
def test_a_written_table_can_be_started_from(trainer: Trainer, table: str):
    embeddings(["run=outputs/run", f"table={table}", "output=vectors.parquet"])
    option = f"tables.{table}.pretrained.path=vectors.parquet"
    again, _ = trainer_of(rows_of(MOVIES), "again", option)
    again.begin()
    assert np.array_equal(weight(again, table), weight(trainer, table))


def test_a_hashed_table_can_be_started_from_as_npy(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
):
    embeddings(["run=outputs/run", "table=shop", "output=vectors.parquet"])
    assert "the file has no keys" in capsys.readouterr().out
    embeddings(["run=outputs/run", "table=shop", "output=vectors.npy"])
    option = "tables.shop.pretrained.path=vectors.npy"
    again, _ = trainer_of(rows_of(MOVIES), "again", option)
    again.begin()
    assert np.array_equal(weight(again, "shop"), weight(trainer, "shop"))


def test_a_written_table_holds_key_row_count_and_vector(trainer: Trainer):
    embeddings(["run=outputs/run", "table=item", "output=vectors.parquet"])
    table = pq.read_table("vectors.parquet")
    assert table.column_names == ["key", "row", "count", "vector"]
    ordered = sorted(MOVIES, key=lambda key: -MOVIES[key])
    assert table["key"].to_pylist() == [None, *ordered]
    assert table["row"].to_pylist() == list(range(6))
    assert table["count"].to_pylist() == [None, *(MOVIES[key] for key in ordered)]
    assert np.array_equal(np.stack(table["vector"].to_pylist()), weight(trainer))
    frame = table_vectors("outputs/run", "item")
    assert frame["key"].tolist()[1:] == ordered


@pytest.mark.parametrize("method", ["quotient_remainder", "multi_probe"])
def test_vectors_of_a_compressed_table_are_those_of_lookups(workdir, method: str):
    extra = [f"tables.item.compression.method={method}"]
    extra += ["tables.item.compression.num_rows=4"] * (method == "multi_probe")
    trainer = trained(*extra)
    embeddings(["run=outputs/run", "table=item", "output=vectors.npy"])
    looked_up = lookups(trainer, num_ids=6)
    np.testing.assert_allclose(np.load("vectors.npy"), looked_up, rtol=1e-6)


def lookups(trainer: Trainer, *, num_ids: int) -> np.ndarray:
    """Return the vector of each id of ``item``, as the model itself looks it up."""
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    names = [fitted.name for fitted in trainer.run.schema.sparse]
    ids = [
        torch.arange(num_ids)
        if name == "item"
        else torch.zeros(num_ids, dtype=torch.long)
        for name in names
    ]
    bags = KeyedJaggedTensor.from_lengths_sync(
        keys=names,
        values=torch.cat(ids),
        lengths=torch.ones(num_ids * len(names), dtype=torch.int32),
    )
    trainer.learner.model.eval()
    with torch.no_grad():
        found = trainer.learner.model.embeddings({"pooled": bags})
    return found[names.index("item")].numpy()


def test_a_row_over_its_limit_is_written_as_lookups_give_it(workdir):
    trained("tables.item.max_norm=0.01")
    embeddings(["run=outputs/run", "table=item", "output=vectors.npy"])
    assert np.linalg.norm(np.load("vectors.npy"), axis=1).max() <= 0.01 + 1e-6


def test_without_near_the_table_is_summed_up(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
):
    embeddings(["run=outputs/run", "table=item"])
    printed = capsys.readouterr().out
    assert "6, encoded by vocabulary" in printed
    assert "6 of width 4, float32" in printed
    # No training row is unknown, so row 0 is never looked up.
    assert "never trained 1 rows" in printed
    assert "'(unknown values)', 'Toy Story (1995)'" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table=itme"], "'itme' is none. Did you mean item?"),
        (["table=item", "top=0"], "top must be a whole number above 0, but it is '0'"),
        (["table=item", "output=v.csv"], "output must end in .parquet or .npy"),
        (["table=item", "output=none/v.npy"], "folder that exists, but none does not"),
        (["table=item", "trainer.seed=1"], "takes no settings, but got trainer.seed=1"),
        (["near=It"], "table must be set"),
    ],
)
def test_what_does_not_fit_is_refused(
    trainer: Trainer, arguments: list[str], message: str
):
    with pytest.raises(ConfigError, match=message):
        embeddings(["run=outputs/run", *arguments])
