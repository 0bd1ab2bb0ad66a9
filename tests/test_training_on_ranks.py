"""``dlrm train`` on several processes trains what one process trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from safetensors.numpy import load_file

from dlrm.commands.starting import OpenedAhead
from dlrm.commands.train import _train
from dlrm.config.compose import compose
from dlrm.config.errors import UserError
from dlrm.distributed.job import OtherRankError, job_over
from dlrm.metric_log import read_metrics
from dlrm.run import open_run
from tests.embeddings.sharded.ranks import Ranks
from tests.runs import tiny_overrides

pytestmark = pytest.mark.xdist_group("ranks")

PLAIN = (
    "model.dropout=0", "trainer.num_epochs=2", "optimizer.dense.name=SGD",
    "optimizer.dense.lr=0.05", "optimizer.sparse.name=sgd",
)  # fmt: skip
"""Without dropout, whose masks every process draws for its own slice, and without
optimizers that make steps of full size out of gradients that are rounding errors."""


def train_on_ranks(
    group: dist.ProcessGroup, overrides: list[str], own: list[list[str]] | None = None
) -> tuple[str | None, str | None, list[str]]:
    """Return the run, the error's text and the printed lines of one rank."""
    job, lines = job_over(group), []
    mine = own[job.rank] if own else []
    try:
        config = compose([*overrides, *mine])
        ahead = OpenedAhead(config.data, None)
        run = _train(
            config, job, frame=None, files=[], report=lines.append, opened=ahead
        )
    except UserError as error:
        return None, f"{type(error).__name__}: {error}", lines
    return str(run.folder), None, lines


def train_alone(overrides: list[str]) -> Path:
    from dlrm.commands.train import train

    return train(*overrides, report=lambda line: None).folder


def tensors(run: Path) -> dict[str, np.ndarray]:
    """Return everything of a run's last checkpoint."""
    last = sorted((run / "checkpoints").glob("step_*"))[-1]
    found = {}
    for path in sorted(last.rglob("*.safetensors")):
        for name, values in load_file(path).items():
            found[f"{path.relative_to(last)}/{name}"] = values
    return found


def assert_same_run(ranks: Path, alone: Path) -> None:
    a, b = tensors(ranks), tensors(alone)
    assert a.keys() == b.keys()
    for name, values in b.items():
        np.testing.assert_allclose(a[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def assert_same_metrics(ranks: Path, alone: Path) -> None:
    for name in ("num_examples", "auc", "log_loss", "ece", "calibration"):
        mine, theirs = (
            json.loads((run / "evaluation/test/metrics.json").read_text())[name]
            for run in (ranks, alone)
        )
        assert mine == pytest.approx(theirs, rel=1e-5), name


def assert_same_history(ranks: Path, alone: Path) -> None:
    for mine, theirs in zip(read_metrics(ranks), read_metrics(alone), strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"examples_per_second", "split"}:
            assert mine[key] == pytest.approx(theirs[key], rel=1e-5), key


@pytest.mark.parametrize(
    "extra",
    [
        ("sharding.strategy=row_wise",),
        ("sharding.strategy=null", "trainer.average_decay=0.9"),
        ("model=dcnv2", "sharding.strategy=table_wise", "trainer.positive_weight=3"),
    ],
    ids=lambda extra: extra[0],
)
def test_two_ranks_train_what_one_process_trains(
    extra: tuple[str, ...], tmp_path: Path, prepared: Path, two_ranks: Ranks
):
    settings = [s for s in PLAIN if not (extra[0] == "model=dcnv2" and "model." in s)]
    common = tiny_overrides(tmp_path, prepared=prepared)
    if extra[0] == "model=dcnv2":
        common = [s for s in common if not s.startswith("model.")]
        settings += ["model.embedding_dim=4"]
    alone = train_alone([*common, *settings, *extra, "run_name=alone"])
    found = two_ranks.run(
        train_on_ranks, [*common, *settings, *extra, "run_name=ranks"]
    )
    assert [error for _, error, _ in found] == [None, None]
    folders = {folder for folder, _, _ in found}
    assert folders == {str(tmp_path / "outputs/ranks")}
    assert found[0][2], "the first rank prints"
    assert not found[1][2], "the first rank alone prints"
    assert_same_run(tmp_path / "outputs/ranks", alone)
    assert_same_history(tmp_path / "outputs/ranks", alone)
    assert_same_metrics(tmp_path / "outputs/ranks", alone)
    assert open_run(tmp_path / "outputs/ranks").manifest()["world_size"] == 2


def test_ranks_with_different_settings_are_refused(
    tmp_path: Path, prepared: Path, two_ranks: Ranks
):
    own = [["optimizer.dense.lr=0.1"], ["optimizer.dense.lr=0.2"]]
    overrides = tiny_overrides(tmp_path, prepared=prepared)
    found = two_ranks.run(train_on_ranks, overrides, own)
    for _, error, _ in found:
        assert "one configuration" in error
        assert "optimizer.dense.lr" in error
    assert not (tmp_path / "outputs").exists()


def test_an_error_of_the_first_rank_ends_all(
    tmp_path: Path, prepared: Path, two_ranks: Ranks
):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "taken").mkdir()
    overrides = tiny_overrides(tmp_path, "run_name=taken", prepared=prepared)
    first, second = two_ranks.run(train_on_ranks, overrides)
    assert "run_name must name a new run" in first[1]
    assert second[1].startswith(OtherRankError.__name__)


def test_a_run_goes_on_with_another_number_of_ranks(
    tmp_path: Path, prepared: Path, two_ranks: Ranks
):
    common = [
        *tiny_overrides(tmp_path, prepared=prepared), *PLAIN,
        "trainer.checkpoint_every=3", "optimizer.schedule.decay=constant",
    ]  # fmt: skip
    alone = train_alone([*common, "run_name=alone"])
    train_alone([*common, "run_name=mixed", "trainer.max_steps=5"])
    resumed = [*common, "run_name=mixed", "resume=true"]
    found = two_ranks.run(train_on_ranks, resumed)
    assert [error for _, error, _ in found] == [None, None]
    assert any("Going on from" in line for line in found[0][2])
    assert_same_run(tmp_path / "outputs/mixed", alone)


def test_a_run_begun_with_other_settings_is_not_resumed(tmp_path: Path, prepared: Path):
    from dlrm.commands.train import train

    common = tiny_overrides(tmp_path, "run_name=run", prepared=prepared)
    train_alone([*common, "trainer.max_steps=2"])
    with pytest.raises(UserError, match=r"another trainer\.seed"):
        train(*common, "resume=true", "trainer.seed=4")
