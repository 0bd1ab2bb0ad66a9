"""A checkpoint is complete or absent, of one model alone, and pickles nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dlrm.checkpoints import blocks, contents, load, save
from dlrm.checkpoints.files import OWN_CHECKSUM, quote_name, state_text
from dlrm.checkpoints.load import load_checkpoint, read_state
from dlrm.checkpoints.rotation import (
    best_checkpoint,
    list_checkpoints,
    mark_best,
    remove_old_checkpoints,
)
from dlrm.checkpoints.save import save_checkpoint
from dlrm.config.errors import RunError
from dlrm.config.optimizer import DenseOptimizer, SparseOptimizer, SparseOptimizerName
from dlrm.distributed.plan import Part
from dlrm.embeddings import outline
from dlrm.embeddings.local import to_local
from dlrm.embeddings.state import TablePart, table_states
from dlrm.models import build_model, model_config
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from tests.builders import random_batch, small_schema
from tests.runs import digest

SCHEMA = small_schema()
DENSE = {
    "adam": DenseOptimizer(name="adam"),
    "sgd with momentum": DenseOptimizer(name="sgd", options={"momentum": 0.9}),
    "adagrad": DenseOptimizer(name="adagrad"),
    "rmsprop": DenseOptimizer(name="rmsprop"),
}
PICKLE_AND_ZIP = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


class Learner:
    """A small model with its optimizers, as the trainer has them."""

    def __init__(
        self,
        *,
        sparse: SparseOptimizerName = SparseOptimizerName.rowwise_adagrad,
        dense: DenseOptimizer = DENSE["adam"],
        seed: int = 0,
        **settings: object,
    ) -> None:
        torch.manual_seed(seed)
        section = {
            "name": "dlrm", "embedding_dim": 4, "bottom_mlp": [5], "top_mlp": [6],
            **settings,
        }  # fmt: skip
        self.model = build_model(model_config(section), SCHEMA)
        options = SparseOptimizer(name=sparse, lr=0.1)
        to_local(self.model, optimizer=options, device=torch.device("cpu"))
        for table in table_states(self.model).values():
            table.weight.copy_(torch.randn_like(table.weight))
        self.optimizer = build_dense_optimizer(dense_parameters(self.model), dense)

    def train(self, seeds: range) -> None:
        for seed in seeds:
            batch = random_batch(SCHEMA, num_rows=8, seed=seed)
            loss = nn.functional.binary_cross_entropy_with_logits(
                self.model(batch).squeeze(1), batch.labels
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def save(self, root: Path, step: int = 1) -> Path:
        return save_checkpoint(
            root,
            step=step,
            model=self.model,
            dense_optimizer=self.optimizer,
            state={"epoch": 0, "position": step},
        )

    def load(self, folder: Path) -> dict[str, Any]:
        return load_checkpoint(folder, model=self.model, dense_optimizer=self.optimizer)

    def everything(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield all that a checkpoint must bring back."""
        yield from self.model.state_dict().items()
        for name, table in table_states(self.model).items():
            yield f"{name} step", torch.tensor(table.step)
            yield from ((f"{name} {key}", t) for key, t in table.optimizer.items())
        for i, values in self.optimizer.state_dict()["state"].items():
            kept = sorted(values.items())
            yield from ((f"{i} {key}", torch.as_tensor(value)) for key, value in kept)


def assert_equal(first: Learner, second: Learner) -> None:
    pairs = zip(first.everything(), second.everything(), strict=True)
    for (name, tensor), (other_name, other) in pairs:
        assert name == other_name
        assert torch.equal(tensor, other), name


@pytest.fixture
def learner() -> Learner:
    learner = Learner()
    learner.train(range(2))
    return learner


@pytest.mark.parametrize("sparse", SparseOptimizerName, ids=lambda name: name.value)
def test_tables_go_on_from_a_checkpoint_as_if_never_stopped(
    tmp_path: Path, sparse: SparseOptimizerName
):
    whole = Learner(sparse=sparse)
    whole.train(range(3))
    folder = whole.save(tmp_path)
    again = Learner(sparse=sparse, seed=7)
    again.load(folder)
    assert_equal(again, whole)
    for learner in (whole, again):
        learner.train(range(3, 6))
    assert_equal(again, whole)


@pytest.mark.parametrize("name", DENSE)
def test_dense_optimizers_go_on_from_a_checkpoint_as_if_never_stopped(
    tmp_path: Path, name: str
):
    whole = Learner(dense=DENSE[name])
    whole.train(range(3))
    folder = whole.save(tmp_path)
    again = Learner(dense=DENSE[name], seed=7)
    again.load(folder)
    assert_equal(again, whole)
    for learner in (whole, again):
        learner.train(range(3, 6))
    assert_equal(again, whole)


def test_tables_cut_into_several_files_come_back_whole(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "MAX_FILE_BYTES", 50)
    folder = learner.save(tmp_path)
    # A row is 4 weights and one accumulator of 4 bytes: two rows in 50 bytes.
    names = {path.name for path in (folder / "tables" / "s0").iterdir()}
    assert names == {
        "rows_0_2.safetensors", "rows_2_4.safetensors", "rows_4_6.safetensors",
        "rows_6_7.safetensors",
    }  # fmt: skip
    again = Learner(seed=7)
    again.load(folder)
    assert_equal(again, learner)


def test_the_state_that_was_given_comes_back(tmp_path: Path, learner: Learner):
    folder = learner.save(tmp_path, step=12)
    state = Learner().load(folder)
    assert folder.name == "step_000000012"
    assert (state["step"], state["epoch"], state["position"]) == (12, 0, 12)


def test_a_model_for_prediction_gets_the_weights_alone(
    tmp_path: Path, learner: Learner
):
    folder = learner.save(tmp_path)
    stateless = Learner(sparse=SparseOptimizerName.sgd, seed=7)
    load_checkpoint(folder, model=stateless.model, dense_optimizer=None)
    batch = random_batch(SCHEMA, num_rows=8)
    assert torch.equal(stateless.model(batch), learner.model(batch))


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path, learner: Learner):
    learner.save(tmp_path)
    mark_best(tmp_path, step=1, metric="auc", value=0.5)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        content = path.read_bytes()
        assert not content.startswith(PICKLE_AND_ZIP)
        if path.suffix == ".safetensors":
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            ends = [
                entry["data_offsets"][1]
                for name, entry in header.items()
                if name != "__metadata__"
            ]
            assert len(content) == 8 + size + max(ends)
        else:
            json.loads(content)


def full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_at_call(
    number: int, call: Callable[..., Any]
) -> tuple[Callable[..., Any], list[int]]:
    """Return ``call`` with a full disk at its call of this number, and its counter."""
    calls = [0]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            full_disk()
        return call(*args, **kwargs)

    return wrapped, calls


WRITES = [
    ("save_file", 1), ("save_file", 2), ("save_file", 4),
    ("fsync", 1), ("fsync", 3), ("fsync", 6), ("rename", 1), ("write_text", 1),
]  # fmt: skip


@pytest.mark.parametrize(("what", "number"), WRITES)
def test_a_full_disk_leaves_the_old_checkpoints_and_no_part_of_a_new_one(
    tmp_path: Path,
    learner: Learner,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    number: int,
):
    learner.save(tmp_path, step=1)
    mark_best(tmp_path, step=1, metric="auc", value=0.5)
    before = digest(tmp_path)
    owner: Any = {"save_file": save, "fsync": os}.get(what, Path)
    wrapped, calls = fail_at_call(number, getattr(owner, what))
    with monkeypatch.context() as patch:
        patch.setattr(owner, what, wrapped)
        with pytest.raises(OSError, match="No space left"):
            learner.save(tmp_path, step=2)
    assert calls[0] >= number
    assert digest(tmp_path) == before
    assert list(tmp_path.iterdir()) != []
    read_state(best_checkpoint(tmp_path))
    assert learner.save(tmp_path, step=2).name == "step_000000002"


def test_a_full_disk_leaves_the_old_mark_of_the_best(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
):
    learner.save(tmp_path, step=1)
    mark_best(tmp_path, step=1, metric="auc", value=0.5)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        mark_best(tmp_path, step=2, metric="auc", value=0.6)
    content = json.loads((tmp_path / "best.json").read_text())
    assert content == {"checkpoint": "step_000000001", "step": 1, "auc": 0.5}


def test_what_a_killed_process_left_is_no_checkpoint_and_goes_with_the_next_save(
    tmp_path: Path, learner: Learner
):
    folder = learner.save(tmp_path, step=1)
    shutil.copytree(folder, tmp_path / ".writing-step_000000002")
    shutil.copytree(folder, tmp_path / ".removing-step_000000003")
    assert list_checkpoints(tmp_path) == [folder]
    learner.save(tmp_path, step=5)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"step_000000001", "step_000000005"}


def test_a_removal_that_is_cut_short_leaves_no_half_checkpoint(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
):
    for step in (1, 2, 3):
        learner.save(tmp_path, step=step)

    def killed(folder: Path) -> None:
        next(folder.rglob("*.safetensors")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_old_checkpoints(tmp_path, keep=1)
    for folder in list_checkpoints(tmp_path):
        read_state(folder)


def test_a_step_saved_again_replaces_its_checkpoint(tmp_path: Path, learner: Learner):
    folder = learner.save(tmp_path)
    (folder / "dense.safetensors").write_bytes(b"damaged")
    assert learner.save(tmp_path) == folder
    read_state(folder)
    assert list(tmp_path.iterdir()) == [folder]


def damages() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield ways to damage a file."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))

    yield "flipped", flip
    yield "cut", lambda path: path.write_bytes(path.read_bytes()[:-3])
    yield "emptied", lambda path: path.write_bytes(b"")
    yield "deleted", Path.unlink


@pytest.mark.parametrize("damage", [d for _, d in damages()], ids=dict(damages()))
@pytest.mark.parametrize(
    "name", ["dense.safetensors", "tables/s1/rows_0_8.safetensors", "state.json"]
)
def test_a_damaged_or_missing_file_is_named(
    tmp_path: Path, learner: Learner, name: str, damage: Callable[[Path], None]
):
    folder = learner.save(tmp_path)
    damage(folder / name)
    with pytest.raises(RunError, match="must be whole") as refused:
        Learner().load(folder)
    assert f"{folder} must be whole, but {name} is missing or damaged" in str(
        refused.value
    )


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"files": 3}', '{"files": ["dense.safetensors"]}', "null"]
)
def test_a_state_that_is_no_state_is_named(
    tmp_path: Path, learner: Learner, content: str
):
    folder = learner.save(tmp_path)
    (folder / "state.json").write_text(content)
    with pytest.raises(RunError, match=r"state\.json is missing or damaged"):
        Learner().load(folder)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "tables/../../outside"]
)
def test_a_path_that_leaves_the_checkpoint_is_refused(
    tmp_path: Path, learner: Learner, name: str
):
    folder = learner.save(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "outside").write_bytes(b"")
    state = json.loads((folder / "state.json").read_text())
    state["files"][name] = "crc32:00000000"
    state.pop(OWN_CHECKSUM)
    (folder / "state.json").write_text(state_text(state))
    with pytest.raises(RunError) as refused:
        read_state(folder)
    assert f"{name} is missing or damaged" in str(refused.value)


def test_a_link_that_leaves_the_checkpoint_is_refused(tmp_path: Path, learner: Learner):
    folder = learner.save(tmp_path / "checkpoints")
    victim = folder / "dense.safetensors"
    shutil.move(victim, tmp_path / "moved")
    victim.symlink_to(tmp_path / "moved")
    with pytest.raises(RunError, match=r"dense\.safetensors is missing or damaged"):
        read_state(folder)


def test_a_checkpoint_of_a_wider_model_is_refused_with_both_shapes(
    tmp_path: Path, learner: Learner
):
    folder = learner.save(tmp_path)
    with pytest.raises(RunError) as refused:
        Learner(bottom_mlp=[9]).load(folder)
    assert (
        "must hold 'model/bottom_mlp.layers.0.weight' of shape [9, 2], but it holds "
        "shape [5, 2]"
    ) in str(refused.value)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path, learner: Learner):
    folder = learner.save(tmp_path)
    with pytest.raises(RunError, match=r"must hold 'model/top_mlp.* holds nothing"):
        Learner(batch_norm=True).load(folder)


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_checkpoint_of_another_table_size_is_refused(
    tmp_path: Path, learner: Learner, extra: int, monkeypatch: pytest.MonkeyPatch
):
    folder = learner.save(tmp_path)
    other = small_schema(num_embeddings=7 + extra)
    monkeypatch.setattr(f"{__name__}.SCHEMA", other)
    with pytest.raises(RunError, match=rf"'?s0.*{7 + extra}.*7"):
        Learner().load(folder)


def test_another_sparse_optimizer_is_refused_by_the_state_it_lacks(
    tmp_path: Path, learner: Learner
):
    folder = learner.save(tmp_path)
    with pytest.raises(RunError, match=r"must hold 's0\.exp_avg' of shape \[7, 4\]"):
        Learner(sparse=SparseOptimizerName.adam).load(folder)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", ".", "..", "/etc", "a\\b", "x y%2F", "é", "state.json"]
)
def test_a_table_of_any_name_stays_inside_the_checkpoint(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    def table(name: str, fill: float) -> TablePart:
        weight = torch.full((3, 2), fill)
        bags: Any = SimpleNamespace(
            weight=lambda index: weight,
            optimizer_state=lambda index: {},
            counters=lambda index: {},
            step=0,
        )
        config = SimpleNamespace(num_embeddings=3, embedding_dim=2)
        return TablePart(name, config, None, Part(0, 0, 3, 0, 2), bags, 0)

    tables = {name: table(name, 1.0), "plain": table("plain", 2.0)}
    for reader in (contents, load, outline):
        monkeypatch.setattr(reader, "table_parts", lambda model: tables.values())
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    root = tmp_path / "below" / "checkpoints"
    folder = save_checkpoint(
        root, step=1, model=model, dense_optimizer=optimizer, state={}
    )
    assert [path.name for path in tmp_path.iterdir()] == ["below"]
    assert list(root.iterdir()) == [folder]
    assert len(list((folder / "tables").iterdir())) == 2
    tables[name] = table(name, 0.0)
    load_checkpoint(folder, model=model, dense_optimizer=None)
    assert torch.equal(tables[name].weight, torch.ones(3, 2))


def test_names_of_tables_become_file_names_one_to_one():
    names = ["a", "A", "a/b", "a%2Fb", "a.b", "a%2Eb", ".", "..", "é", " "]
    quoted = [quote_name(name) for name in names]
    assert len(set(quoted)) == len(names)
    assert not any("/" in name or name.startswith(".") for name in quoted)


def test_the_newest_checkpoints_and_the_best_one_stay(tmp_path: Path, learner: Learner):
    for step in range(1, 6):
        learner.save(tmp_path, step=step)
    mark_best(tmp_path, step=2, metric="auc", value=0.7)
    remove_old_checkpoints(tmp_path, keep=2)
    found = [path.name for path in list_checkpoints(tmp_path)]
    assert found == ["step_000000002", "step_000000004", "step_000000005"]
    assert best_checkpoint(tmp_path).name == "step_000000002"


def test_the_newest_stands_in_where_no_checkpoint_is_marked(
    tmp_path: Path, learner: Learner
):
    for step in (1, 1_000_000_000):
        learner.save(tmp_path, step=step)
    assert best_checkpoint(tmp_path).name == "step_1000000000"
    mark_best(tmp_path, step=7, metric="auc", value=0.7)
    assert best_checkpoint(tmp_path).name == "step_1000000000"


def test_a_damaged_mark_of_the_best_is_named(tmp_path: Path, learner: Learner):
    learner.save(tmp_path)
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(RunError, match=r"best\.json"):
        best_checkpoint(tmp_path)


def test_a_run_without_checkpoints_is_told_to_train(tmp_path: Path):
    with pytest.raises(RunError, match=r"has none.*dlrm train run="):
        best_checkpoint(tmp_path / "checkpoints")
