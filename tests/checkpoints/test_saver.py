"""A checkpoint written beside training is the one that was due, or the run ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from dlrm.checkpoints.contents import contents_of
from dlrm.checkpoints.rotation import list_checkpoints
from dlrm.checkpoints.save import save_contents
from dlrm.checkpoints.saver import Saver
from dlrm.config.errors import TrainingError, WriteError
from dlrm.distributed.job import ALONE
from dlrm.embeddings.state import table_states
from tests.checkpoints.test_checkpoint import Learner
from tests.runs import digest


def test_a_copy_is_saved_as_it_was_whatever_training_does_meanwhile(tmp_path: Path):
    learner = Learner()
    learner.train(range(3))
    learner.save(tmp_path / "live", step=3)
    live = contents_of(learner.model, learner.optimizer, None, ALONE)
    copied = live.copied()
    learner.train(range(3, 6))
    state = {"epoch": 0, "position": 3}
    save_contents(tmp_path / "copied", 3, copied, state, ALONE)
    assert digest(tmp_path / "copied") == digest(tmp_path / "live")


def test_a_copy_takes_the_bytes_that_were_told(tmp_path: Path):
    learner = Learner()
    learner.train(range(1))
    contents = contents_of(learner.model, learner.optimizer, None, ALONE)
    folder = learner.save(tmp_path)
    files = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    headers = sum(
        8 + int.from_bytes(path.read_bytes()[:8], "little")
        for path in folder.rglob("*.safetensors")
    )
    assert contents.num_bytes == files - headers


def test_one_checkpoint_is_written_at_a_time():
    saver, order, go_on = Saver(), [], threading.Event()

    def slow() -> None:
        go_on.wait(10)
        order.append("first")

    saver.start(slow)
    assert order == []
    threading.Timer(0.05, go_on.set).start()
    saver.start(lambda: order.append("second"))
    saver.wait()
    assert order == ["first", "second"]


def test_an_error_of_the_writer_is_raised_where_somebody_asks():
    saver = Saver()

    def fail() -> None:
        raise WriteError("the disk is full")

    saver.start(fail)
    with pytest.raises(WriteError, match="the disk is full"):
        saver.wait()
    saver.check()
    saver.start(fail)
    saver.settle()
    with pytest.raises(WriteError, match="the disk is full"):
        saver.check()


def test_a_table_that_is_not_finite_is_named_and_no_checkpoint_of_it_is_left(
    tmp_path: Path,
):
    learner = Learner()
    learner.save(tmp_path, step=1)
    table = table_states(learner.model)["s1"]
    table.weight[[2, 5], 1] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(TrainingError) as refused:
        learner.save(tmp_path, step=2)
    message = str(refused.value)
    assert "table 's1': weight of 2 rows, the first of them 2" in message
    assert "tables.s1.optimizer.lr" in message
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_000000001"]
    assert len(list(tmp_path.iterdir())) == 1
