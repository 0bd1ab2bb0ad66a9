"""Tables of several widths in one DLRM; equal widths are the uniform model exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.metric_log import read_metrics
from dlrm.run import Run, create_run
from dlrm.trainer import Trainer
from tests.builders import random_batch
from tests.runs import digest, tiny_config

ONE_HOT = ("age", "region", "device", "slot", "hour", "category", "brand", "item")
BAGS = ("tags", "interests")
MIXED = dict(zip((*ONE_HOT, *BAGS), [4, 8, 16, 64] * 2 + [16, 16], strict=True))
"""Both bags read one table."""
INTERACTIONS = ("dot", "cat", "dot_cat", "dcn_v2", "projection")


def start(tmp_path: Path, prepared: Path, *extra: str) -> tuple[Run, Trainer]:
    config = tiny_config(tmp_path, *extra, prepared=prepared)
    folder = prepare_dataset(config.data)
    run = create_run(config, dataset=folder, code=[])
    return run, Trainer(run, Dataset.open(folder), report=lambda line: None)


def stated(widths: dict[str, int]) -> list[str]:
    """Return the overrides that give features these widths."""
    return [
        f"data.sparse_features.{name}.embedding_dim={width}"
        for name, width in widths.items()
    ]


def test_widths_of_4_to_64_train(tmp_path: Path, prepared: Path):
    run, trainer = start(
        tmp_path, prepared, *stated(MIXED), "model.embedding_dim=16",
        "trainer.num_epochs=6",
    )  # fmt: skip
    embeddings = trainer.learner.model.embeddings
    assert dict(zip(embeddings.feature_names, embeddings.widths, strict=True)) == MIXED
    before = {k: v.clone() for k, v in trainer.learner.model.state_dict().items()}
    trainer.fit()
    losses = [r["loss"] for r in read_metrics(run.folder) if "loss" in r]
    assert losses[-1] < losses[0]
    for name, value in trainer.learner.model.state_dict().items():
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_equal_widths_are_the_uniform_model_to_the_bit(
    tmp_path: Path, prepared: Path, interaction: str
):
    digests, states, logits = [], [], []
    for name, widths in (
        ("left_out", []),
        ("stated", stated(dict.fromkeys(MIXED, 4))),
    ):
        run, trainer = start(
            tmp_path, prepared, *widths, f"model.interaction={interaction}",
            "trainer.max_steps=4", f"run_name={name}",
        )  # fmt: skip
        states.append(
            {k: v.clone() for k, v in trainer.learner.model.state_dict().items()}
        )
        batch = random_batch(run.schema, num_rows=64)
        logits.append(trainer.learner.model.eval()(batch).detach())
        trainer.learner.model.train()
        trainer.fit()
        digests.append(digest(run.checkpoints / "step_000000004"))
    assert states[0].keys() == states[1].keys()
    assert not any("projections" in name for name in states[0])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert torch.equal(logits[0], logits[1])
    assert digests[0] == digests[1]
