"""A run that starts from another keeps every old row to the bit, found by its key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dlrm.checkpoints.rotation import list_checkpoints
from dlrm.commands.train import resume, train
from dlrm.config.errors import RunError
from dlrm.config.optimizer import SparseOptimizerName
from dlrm.embeddings.state import TablePart, table_states
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

OLD = {f"old{i}": 9 - i // 2 for i in range(10)}
"""Ten items, the later the rarer."""
GROWN = {**{f"old{i}": 3 + i for i in range(10)}, **{f"new{i}": 8 for i in range(10)}}
"""Twice as many, the old ones in the opposite order of their frequencies."""
FOUR_STEPS = "trainer.max_steps=4"


@pytest.fixture(autouse=True)
def _preset(workdir: Path) -> None:
    write_preset(workdir)


def trained(items: dict[str, int], name: str, *extra: str, dim: int = 4) -> Trainer:
    trainer, _ = trainer_of(rows_of(items), name, FOUR_STEPS, *extra, dim=dim)
    trainer.fit()
    return trainer


def begun(
    items: dict[str, int], *extra: str, dim: int = 4, name: str = "new"
) -> tuple[Trainer, list[str]]:
    """Return the trainer of a run that starts from ``outputs/old``."""
    extra = ("init_from=outputs/old", *extra)
    trainer, lines = trainer_of(rows_of(items, seed=1), name, *extra, dim=dim)
    trainer.begin()
    return trainer, lines


def table(trainer: Trainer, name: str) -> TablePart:
    return table_states(trainer.learner.model)[name]


def columns(state: TablePart) -> dict[str, torch.Tensor]:
    return {"weight": state.weight, **state.optimizer}


# Widths of 5 are the torch kernel's, whatever the optimizer.
@pytest.mark.parametrize("dim", [4, 5])
@pytest.mark.parametrize("name", SparseOptimizerName, ids=lambda name: name.value)
def test_a_vocabulary_of_twice_the_size_keeps_old_rows_and_their_state(
    name: SparseOptimizerName, dim: int
):
    sparse = f"optimizer.sparse.name={name.value}"
    old = trained(OLD, "old", sparse, dim=dim)
    new, _ = begun(GROWN, sparse, dim=dim)
    was, now = item_rows(old.run), item_rows(new.run)
    assert len(now) == 2 * len(was)
    assert [was[key] for key in was] != [now[key] for key in was]
    before, after = table(old, "item"), table(new, "item")
    assert columns(before).keys() == columns(after).keys()
    for column, values in columns(after).items():
        for key, row in was.items():
            assert torch.equal(values[now[key]], columns(before)[column][row]), column
        assert torch.equal(values[0], columns(before)[column][0])
    assert after.step == before.step


def test_tables_that_a_model_adds_are_mapped_by_the_values_they_read():
    extra = (
        "model=deepfm", "data.sparse_features.item.multi_hot=true",
        "data.sparse_features.item.delimiter=pipe",
        "data.sparse_features.item.pooling=max",
    )  # fmt: skip
    old = trained(OLD, "old", *extra)
    new, _ = begun(GROWN, *extra)
    was, now = item_rows(old.run), item_rows(new.run)
    assert set(table_states(new.learner.model)) > {"item", "item/linear"}
    for name in ("item", "item/linear"):
        for column, values in columns(table(new, name)).items():
            before = columns(table(old, name))[column]
            for key, row in was.items():
                assert torch.equal(values[now[key]], before[row]), (name, column)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_of_16_bits_and_their_lookup_counts_are_kept(dtype: str):
    extra = (f"tables.item.dtype={dtype}", "tables.item.admit_after=3")
    old = trained(OLD, "old", *extra)
    new, _ = begun(GROWN, *extra)
    was, now = item_rows(old.run), item_rows(new.run)
    before, after = columns(table(old, "item")), columns(table(new, "item"))
    assert after["uses"].dtype == torch.int32
    for column, values in after.items():
        for key, row in was.items():
            assert torch.equal(values[now[key]], before[column][row]), column


def test_rows_of_an_old_run_that_counted_no_lookups_are_admitted_at_once():
    old = trained(OLD, "old")
    new, _ = begun(GROWN, "tables.item.admit_after=100")
    uses, now = columns(table(new, "item"))["uses"], item_rows(new.run)
    assert {int(uses[now[key]]) for key in item_rows(old.run)} == {100}
    assert {int(uses[row]) for key, row in now.items() if key not in OLD} == {0}


def test_another_type_is_told_and_the_table_starts_anew():
    trained(OLD, "old")
    _, lines = begun(OLD, "tables.item.dtype=float16")
    assert "        item: not mapped, type float16, was float32" in lines


def test_new_rows_start_as_in_a_run_that_starts_from_nothing():
    trained(OLD, "old")
    new, _ = begun(GROWN)
    fresh, _ = trainer_of(rows_of(GROWN, seed=1), "fresh")
    rows = [row for key, row in item_rows(new.run).items() if key.startswith("new")]
    assert len(rows) == 10
    assert torch.equal(
        table(new, "item").weight[rows], table(fresh, "item").weight[rows]
    )
    assert (table(new, "item").optimizer["sum"][rows] == 0).all()


def test_dense_parameters_and_their_optimizer_go_on():
    old = trained(OLD, "old", "optimizer.dense.name=Adam")
    new, _ = begun(GROWN, "optimizer.dense.name=Adam")
    pairs = zip(old.learner.dense_parameters, new.learner.dense_parameters, strict=True)
    for before, after in pairs:
        assert torch.equal(before, after)
    states = (t.learner.dense_optimizer.state_dict()["state"] for t in (old, new))
    for before, after in zip(*(state.values() for state in states), strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_shrunk_vocabulary_says_which_rows_it_drops():
    old = trained(OLD, "old")
    kept = {key: count for key, count in OLD.items() if key < "old6"}
    new, lines = begun(kept)
    assert (
        "        item: 7 of 7 rows mapped with optimizer state; 0 new; "
        "4 old rows dropped" in lines
    )
    was, now = item_rows(old.run), item_rows(new.run)
    for key in kept:
        before, after = table(old, "item").weight, table(new, "item").weight
        assert torch.equal(before[was[key]], after[now[key]])


def test_rows_of_other_encodings_are_mapped_by_what_they_stand_for():
    old = trained(OLD, "old")
    new, lines = begun(
        GROWN,
        "data.sparse_features.shop.num_embeddings=12",
        "data.sparse_features.slot.num_embeddings=7",
    )
    before, after = table(old, "shop").weight, table(new, "shop").weight
    # A text's hash modulo 12 leaves, modulo 6, its hash modulo 6.
    assert torch.equal(after, torch.cat([before, before]))
    assert torch.equal(table(old, "slot").weight, table(new, "slot").weight[:5])
    assert torch.equal(table(old, "age").weight, table(new, "age").weight)
    assert any("slot: 5 of 7 rows" in line for line in lines)


@pytest.mark.parametrize(
    ("extra", "table_name", "reason"),
    [
        ("data.sparse_features.shop.num_embeddings=9", "shop",
         "9 hashed rows hold other values than 6 did; a multiple of 6 would keep them"),
        ("data.sparse_features.age.boundaries=[30.0]", "age",
         "the boundaries of its buckets are others"),
        ("data.sparse_features.slot.encoding=hash", "slot",
         "encoding is hash, was identity"),
        ("tables.shop.compression.method=quotient_remainder", "shop",
         "its ids are composed of rows in another way"),
    ],
)  # fmt: skip
def test_a_table_whose_rows_mean_something_else_starts_anew(
    extra: str, table_name: str, reason: str
):
    trained(OLD, "old")
    new, lines = begun(GROWN, extra)
    assert f"        {table_name}: not mapped, {reason}" in lines
    fresh, _ = trainer_of(rows_of(GROWN, seed=1), "fresh", extra)
    assert torch.equal(table(new, table_name).weight, table(fresh, table_name).weight)


def test_a_run_that_averages_hands_on_its_averages_and_its_state():
    average = "trainer.average_decay=0.9"
    old = trained(OLD, "old", average)
    new, lines = begun(OLD)
    assert any("item: 11 of 11 rows mapped with optimizer state" in x for x in lines)
    assert old.learner.average is not None
    was, now = item_rows(old.run), item_rows(new.run)
    for key in OLD:
        averaged = old.learner.average.values["table/0,0/item"][was[key]]
        assert torch.equal(table(new, "item").weight[now[key]], averaged)


def test_another_width_is_told_and_nothing_is_cut_to_fit():
    trained(OLD, "old", dim=4)
    new, lines = begun(OLD, dim=8)
    fresh, _ = trainer_of(rows_of(OLD, seed=1), "fresh", dim=8)
    assert "        item: not mapped, width 8, was 4" in lines
    for name in table_states(new.learner.model):
        assert torch.equal(table(new, name).weight, table(fresh, name).weight)
    record = new.run.manifest()["init_from"]
    assert any("shape" in why for why in record["parameters"]["not_mapped"].values())


def test_another_optimizer_keeps_weights_and_says_so():
    old = trained(OLD, "old", "optimizer.sparse.name=rowwise_adagrad")
    new, lines = begun(OLD, "optimizer.sparse.name=adagrad", "optimizer.dense.name=SGD")
    assert any(
        "item: 11 of 11 rows mapped without optimizer state, which holds "
        "sum a value, was sum a row" in line
        for line in lines
    )
    assert any("dense optimizer: starts anew, it is SGD" in line for line in lines)
    assert (table(new, "item").optimizer["sum"] == 0).all()
    was, now = item_rows(old.run), item_rows(new.run)
    weights = table(old, "item").weight, table(new, "item").weight
    assert all(torch.equal(weights[0][was[k]], weights[1][now[k]]) for k in OLD)


def test_the_manifest_keeps_what_was_mapped():
    trained(OLD, "old")
    new, _ = begun(GROWN)
    record = new.run.manifest()["init_from"]
    assert record["run"] == str(Path("outputs/old").resolve())
    assert record["checkpoint"] == "step_000000004"
    item = next(entry for entry in record["tables"] if entry["table"] == "item")
    assert item == {
        "table": "item", "num_rows": 21, "num_mapped": 11, "num_dropped": 0,
        "not_mapped": "", "has_state": True, "state_not_mapped": "",
        "state_converted": "",
    }  # fmt: skip


@pytest.mark.parametrize("sparse", ["rowwise_adagrad", "adam"])
def test_a_stopped_grown_run_ends_as_one_never_stopped_without_its_old_run(sparse: str):
    extra = (f"optimizer.sparse.name={sparse}", FOUR_STEPS)
    trained(OLD, "old", *extra)
    whole, _ = begun(GROWN, *extra, name="whole")
    whole.fit()
    stopped, _ = begun(GROWN, *extra, name="stopped")
    assert [path.name for path in list_checkpoints(stopped.run.checkpoints)] == [
        "step_000000000"
    ]
    shutil.rmtree("outputs/old")
    resumed = again(stopped.run)
    resumed.fit()
    last = "step_000000004"
    assert digest(resumed.run.checkpoints / last) == digest(
        whole.run.checkpoints / last
    )


def test_a_run_that_is_no_run_is_refused_before_anything_is_written(workdir: Path):
    with pytest.raises(
        RunError, match=r"'outputs/none' with init_from_checkpoint=best"
    ):
        train(*SETTINGS, "init_from=outputs/none", frame={"train": rows_of(OLD)})
    assert not (workdir / "outputs").exists()
    assert not (workdir / "prepared").exists()


def test_a_damaged_table_is_refused_before_anything_is_written(workdir: Path):
    old = trained(OLD, "old")
    shutil.rmtree(workdir / "prepared")
    (file,) = (old.run.checkpoints / "step_000000004/tables/item").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(RunError, match=r"tables/item/rows_0_11.safetensors is missing"):
        train(*SETTINGS, "init_from=outputs/old", frame={"train": rows_of(OLD)})
    assert [path.name for path in (workdir / "outputs").iterdir()] == ["old"]
    assert not (workdir / "prepared").exists()


def test_a_named_checkpoint_can_be_started_from():
    trained(OLD, "old", "trainer.checkpoint_every=2", "trainer.keep_checkpoints=3")
    new, _ = begun(OLD, "init_from_checkpoint=step_000000002")
    assert new.run.manifest()["init_from"]["checkpoint"] == "step_000000002"
    with pytest.raises(RunError, match="step_000000009"):
        begun(OLD, "init_from_checkpoint=step_000000009", name="other")


def test_a_run_with_code_of_its_own_is_started_from_without_running_it(workdir: Path):
    old = trained(OLD, "old")
    trap = old.run.folder / "code"
    trap.mkdir()
    (trap / "own.py").write_text("raise SystemExit('executed')\n")
    manifest = old.run.folder / "manifest.json"
    content = {**json.loads(manifest.read_text()), "code": {"own.py": "0"}}
    manifest.write_text(json.dumps(content))
    config = old.run.folder / "config.yaml"
    config.write_text(config.read_text().replace("name: dlrm\n", "name: own\n"))
    new, _ = begun(GROWN)
    assert new.run.manifest()["init_from"]["tables"]


def test_the_verb_trains_a_grown_run_to_its_end(workdir: Path):
    trained(OLD, "old")
    lines: list[str] = []
    run = train(
        *SETTINGS, "init_from=outputs/old", "run_name=new", "model.embedding_dim=4",
        frame={"train": rows_of(GROWN, seed=1)}, report=lines.append,
    )  # fmt: skip
    assert any(line.startswith("init    ") for line in lines)
    assert resume(run.folder, report=lines.append).folder == run.folder
