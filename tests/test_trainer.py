from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from dlrm.checkpoints.rotation import best_checkpoint, list_checkpoints
from dlrm.config.data import DataConfig, SourceFormat, TableSource
from dlrm.config.errors import TrainingError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.embeddings.state import table_states
from dlrm.evaluation.predictions import collect_predictions
from dlrm.interrupts import RunInterruptedError
from dlrm.metric_log import read_metrics
from dlrm.run import Run, create_run, load_model
from dlrm.trainer import Trainer
from tests.runs import digest, tiny_config


def start(
    tmp_path: Path, prepared: Path, *extra: str
) -> tuple[Run, Trainer, list[str]]:
    """Return a new tiny run, its trainer and the lines it reports."""
    config = tiny_config(tmp_path, *extra, prepared=prepared)
    folder = prepare_dataset(config.data)
    run = create_run(config, dataset=folder, code=[])
    lines: list[str] = []
    return run, Trainer(run, Dataset.open(folder), report=lines.append), lines


def again(run: Run) -> Trainer:
    """Return a trainer as a new process would make it."""
    dataset = Dataset.open(Path(run.manifest()["dataset"]))
    return Trainer(run, dataset, report=lambda line: None)


def weights(run: Run, step: int) -> dict[str, str]:
    return digest(run.checkpoints / f"step_{step:09d}")


def losses(run: Run) -> list[tuple[int, float]]:
    return [(r["step"], r["loss"]) for r in read_metrics(run.folder) if "loss" in r]


def test_the_loss_falls_and_every_epoch_is_evaluated(tmp_path: Path, prepared: Path):
    run, trainer, _ = start(tmp_path, prepared, "trainer.num_epochs=6")
    trainer.fit()
    history = losses(run)
    assert history[-1][1] < history[0][1]
    evaluated = [
        r["step"] for r in read_metrics(run.folder) if r.get("split") == "valid"
    ]
    assert evaluated == [7, 14, 21, 28, 35, 42]


def test_two_runs_of_one_seed_are_equal_to_the_bit(tmp_path: Path, prepared: Path):
    digests = []
    for name in ("a", "b"):
        run, trainer, _ = start(tmp_path, prepared, f"run_name={name}")
        trainer.fit()
        digests.append(weights(run, 7))
    assert digests[0] == digests[1]


def test_another_seed_gives_another_model(tmp_path: Path, prepared: Path):
    tables = []
    for seed in (1, 2):
        run, trainer, _ = start(
            tmp_path, prepared, f"trainer.seed={seed}", f"run_name={seed}"
        )
        trainer.fit()
        tables.append(weights(run, 7)["dense.safetensors"])
    assert tables[0] != tables[1]


@pytest.mark.parametrize("sparse", ["rowwise_adagrad", "adam"])
@pytest.mark.parametrize("stop_at", [3, 7, 10])
def test_a_stopped_run_ends_as_the_one_that_was_never_stopped(
    tmp_path: Path, prepared: Path, stop_at: int, sparse: str
):
    extra = (
        "trainer.num_epochs=2", f"optimizer.sparse.name={sparse}",
        "optimizer.schedule.warmup_steps=4", "optimizer.schedule.decay=cosine",
    )  # fmt: skip
    whole, trainer, _ = start(tmp_path, prepared, "run_name=whole", *extra)
    trainer.fit()

    stopped, trainer, _ = start(tmp_path, prepared, "run_name=stopped", *extra)
    log = trainer.open_log()
    for _ in trainer.steps(log):
        if trainer.step == stop_at:
            trainer._save()
            break
    log.close()
    again(stopped).fit()
    assert weights(stopped, 14) == weights(whole, 14)
    assert losses(stopped)[-1] == losses(whole)[-1]
    assert json.loads((stopped.checkpoints / "best.json").read_text()) == json.loads(
        (whole.checkpoints / "best.json").read_text()
    )


TABLE_OPTIONS = (
    "model.embedding_dtype=float16",
    "tables.item.admit_after=3",
    "tables.item.optimizer.name=adam",
    "tables.item.optimizer.lr=0.01",
    "tables.brand.dtype=bfloat16",
    "tables.brand.gradient=dense",
    "tables.category.frozen=true",
    "tables.region.padding_idx=1",
    "tables.slot.init.name=normal",
    "tables.slot.init.scale=0.1",
    "tables.tag.max_norm=0.5",
    "tables.tag.scale_grad_by_freq=true",
    "data.sparse_features.tags.pooling=max",
    "data.sparse_features.interests.pooling=max",
)


def test_tables_of_all_options_train_resume_and_evaluate_to_the_bit(
    tmp_path: Path, prepared: Path
):
    extra = ("trainer.num_epochs=2", *TABLE_OPTIONS)
    whole, trainer, _ = start(tmp_path, prepared, "run_name=whole", *extra)
    trainer.fit()
    stopped, stopping, _ = start(tmp_path, prepared, "run_name=stopped", *extra)
    log = stopping.open_log()
    for _ in stopping.steps(log):
        if stopping.step == 9:
            stopping._save()
            break
    log.close()
    again(stopped).fit()
    assert weights(stopped, 14) == weights(whole, 14)
    states = table_states(trainer.learner.model)
    dtypes = {state.weight.dtype for state in states.values()}
    assert dtypes == {torch.float16, torch.bfloat16}
    assert set(states["item"].optimizer) == {"exp_avg", "exp_avg_sq", "uses"}
    assert not states["region"].weight[1].any()

    last = whole.checkpoints / "step_000000014"
    loaded = load_model(whole, checkpoint=last, device=torch.device("cpu"))
    found = [
        collect_predictions(model, trainer.valid_rows.batches(0), torch.device("cpu"))
        for model in (trainer.learner.model, loaded)
    ]
    assert found[0].logits.tolist() == found[1].logits.tolist()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, prepared: Path, number: signal.Signals
):
    run, trainer, _ = start(tmp_path, prepared, "trainer.num_epochs=2")
    train_step = trainer._train_step

    def interrupted_step(batch) -> None:
        train_step(batch)
        if trainer.step == 5:
            os.kill(os.getpid(), number)

    trainer._train_step = interrupted_step
    with pytest.raises(RunInterruptedError, match=number.name):
        trainer.fit()
    assert [path.name for path in list_checkpoints(run.checkpoints)] == [
        "step_000000005"
    ]
    resumed = again(run)
    resumed.fit()
    assert resumed.step == 14


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_suspect(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, "trainer.num_epochs=2")
    train_step = trainer._train_step

    def poisoned_step(batch) -> None:
        if trainer.step == 9:
            batch.dense[0, 0] = float("nan")
        train_step(batch)

    trainer._train_step = poisoned_step
    with pytest.raises(
        TrainingError, match=r"it is nan at step 10.*dense features"
    ) as info:
        trainer.fit()
    assert "step_000000007" in str(info.value)
    assert best_checkpoint(run.checkpoints).name == "step_000000007"


def test_early_stopping_ends_the_run_and_says_so(tmp_path: Path, prepared: Path):
    run, trainer, lines = start(
        tmp_path, prepared, "trainer.num_epochs=50",
        "trainer.early_stopping_patience=1", "optimizer.sparse.lr=1.0",
        "optimizer.dense.lr=0.1",
    )  # fmt: skip
    trainer.fit()
    assert trainer.step < 350
    assert lines[-1].startswith("Stopped early at step")
    resumed = again(run)
    resumed.fit()
    assert resumed.step == trainer.step


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path: Path, prepared: Path):
    run, trainer, _ = start(
        tmp_path, prepared, "trainer.num_epochs=5", "trainer.keep_checkpoints=1"
    )
    trainer.fit()
    names = {path.name for path in list_checkpoints(run.checkpoints)}
    assert names == {best_checkpoint(run.checkpoints).name, "step_000000035"}


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, "trainer.num_epochs=2")
    trainer.fit()
    expected = weights(run, 14)
    victim = run.checkpoints / "step_000000014" / "dense.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    resumed = again(run)
    lines: list[str] = []
    resumed.report = lines.append
    resumed.fit()
    assert "step_000000014" in lines[0]
    assert "dense.safetensors is missing or damaged" in lines[0]
    assert weights(run, 14) == expected


def test_max_steps_ends_the_run_in_mid_epoch_with_a_checkpoint(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, "trainer.max_steps=3")
    trainer.fit()
    state = json.loads((run.checkpoints / "step_000000003" / "state.json").read_text())
    assert (state["step"], state["epoch"], state["position"]) == (3, 0, 3)


def test_the_schedule_sets_both_learning_rates(tmp_path: Path, prepared: Path):
    run, trainer, _ = start(
        tmp_path, prepared, "optimizer.schedule.warmup_steps=10", "trainer.log_every=1",
        "optimizer.sparse.lr=0.5", "optimizer.dense.lr=0.1",
    )  # fmt: skip
    trainer.fit()
    records = [r for r in read_metrics(run.folder) if "loss" in r]
    assert [r["lr_sparse"] for r in records] == pytest.approx(
        [0.05 * step for step in range(1, 8)]
    )
    assert [r["lr_dense"] for r in records] == pytest.approx(
        [0.01 * step for step in range(1, 8)]
    )


def test_clipping_bounds_the_step_of_sgd(tmp_path: Path, prepared: Path):
    _, trainer, _ = start(
        tmp_path, prepared, "optimizer.dense.name=SGD", "optimizer.dense.lr=1.0",
        "optimizer.dense.clip_norm=0.01", "optimizer.schedule.warmup_steps=0",
    )  # fmt: skip
    before = [p.detach().clone() for p in trainer.learner.dense_parameters]
    trainer._train_step(next(trainer.train_rows.batches(0)))
    moves = [
        a.detach() - b
        for a, b in zip(trainer.learner.dense_parameters, before, strict=True)
    ]
    norm = torch.sqrt(sum(move.square().sum() for move in moves))
    assert 0.0099 < norm.item() <= 0.01001


def test_data_without_a_validation_split_keeps_the_newest_checkpoint(tmp_path: Path):
    frame = pd.DataFrame({"label": [0, 1] * 40, "x": range(80), "c": list("abcd") * 20})
    data = DataConfig(
        name="mine",
        format=SourceFormat.table,
        table=TableSource(),
        prepared=str(tmp_path),
        split_fractions=[1.0, 0.0, 0.0],
        dense_features={"x": DenseFeature()},
        sparse_features={"c": SparseFeature()},
    )
    config = dataclasses.replace(tiny_config(tmp_path), data=data)
    folder = prepare_dataset(data, frame=frame)
    dataset = Dataset.open(folder)
    assert dataset.schema.num_rows("train") == 80
    run = create_run(config, dataset=folder, code=[])
    Trainer(run, dataset, report=lambda line: None).fit()
    assert best_checkpoint(run.checkpoints).name == "step_000000001"
