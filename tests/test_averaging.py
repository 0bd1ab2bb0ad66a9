"""A moving average of all weights is what a run is judged by and predicts with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dlrm.averaging import WeightAverage
from dlrm.checkpoints.dense import dense_tensors
from dlrm.checkpoints.files import read_table
from dlrm.checkpoints.rotation import best_checkpoint
from dlrm.config.errors import ConfigError
from dlrm.embeddings.state import table_states
from dlrm.metric_log import read_metrics
from dlrm.run import load_model
from dlrm.scoring import score_split
from tests.test_trainer import again, start, weights

DECAY = "trainer.average_decay=0.6"


def all_weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return float64 copies of every floating-point weight."""
    dense, _ = dense_tensors(model, None)
    tables = {name: state.weight for name, state in table_states(model).items()}
    found = {**dense, **tables}
    return {
        n: t.double().numpy().copy() for n, t in found.items() if t.is_floating_point()
    }


def test_the_average_is_the_sum_of_its_definition(tmp_path: Path, prepared: Path):
    _, trainer, _ = start(tmp_path, prepared, DECAY, "model.batch_norm=true")
    expected = all_weights(trainer.learner.model)
    log = trainer.open_log()
    for step, _ in enumerate(trainer.steps(log), start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        now = all_weights(trainer.learner.model)
        expected = {n: decay * a + (1 - decay) * now[n] for n, a in expected.items()}
    log.close()
    assert trainer.learner.average is not None
    with trainer.learner.average.in_use():
        found = all_weights(trainer.learner.model)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)


def test_training_goes_on_with_its_own_weights(tmp_path: Path, prepared: Path):
    plain, trainer, _ = start(tmp_path, prepared, "run_name=plain")
    trainer.fit()
    averaged, trainer, _ = start(tmp_path, prepared, "run_name=averaged", DECAY)
    trainer.fit()
    folders = [best_checkpoint(run.checkpoints) for run in (plain, averaged)]
    (own,), (both,) = (list(read_table(folder, "item")) for folder in folders)
    assert torch.equal(both.columns["training"], own.columns["weight"])
    assert not torch.equal(both.columns["weight"], own.columns["weight"])


def test_a_run_is_judged_by_the_weights_it_predicts_with(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, DECAY)
    trainer.fit()
    logged = [r["log_loss"] for r in read_metrics(run.folder) if "split" in r]
    checkpoint = best_checkpoint(run.checkpoints)
    scored = score_split(run, trainer.dataset, split="valid", checkpoint=checkpoint)
    metrics = trainer.judge.metrics(scored.predictions)
    assert metrics["log_loss"] == pytest.approx(logged[-1], rel=1e-6)
    model = load_model(run, checkpoint=checkpoint, device=torch.device("cpu"))
    assert trainer.learner.average is not None
    with trainer.learner.average.in_use():
        for name, values in all_weights(trainer.learner.model).items():
            assert np.array_equal(all_weights(model)[name], values), name


def test_a_resumed_average_ends_bit_identical(tmp_path: Path, prepared: Path):
    settings = (DECAY, "trainer.num_epochs=2", "trainer.checkpoint_every=3")
    whole, trainer, _ = start(tmp_path, prepared, "run_name=whole", *settings)
    trainer.fit()
    cut, trainer, _ = start(tmp_path, prepared, "run_name=cut", *settings)
    log = trainer.open_log()
    for step, _ in enumerate(trainer.steps(log), start=1):
        if step == 8:
            break
    log.close()
    trainer.learner.saver.wait()  # Two processes would never write at once.
    again(cut).fit()
    assert weights(whole, 14) == weights(cut, 14)


def test_sixteen_bit_tables_have_no_average(tmp_path: Path, prepared: Path):
    with pytest.raises(ConfigError, match="average_decay needs float32.*item.*float16"):
        start(tmp_path, prepared, DECAY, "tables.item.dtype=float16")


@pytest.mark.parametrize("decay", ["0", "1", "-0.5"])
def test_a_decay_is_a_share(decay: str, tmp_path: Path, prepared: Path):
    with pytest.raises(ConfigError, match=r"trainer.average_decay must be in \(0, 1\)"):
        start(tmp_path, prepared, f"trainer.average_decay={decay}")


def test_the_weights_come_back_when_an_evaluation_fails(tmp_path: Path, prepared: Path):
    _, trainer, _ = start(tmp_path, prepared)
    average = WeightAverage(trainer.learner.model, 0.9)
    for tensor in average.values.values():
        tensor.add_(1.0)
    before = all_weights(trainer.learner.model)
    with pytest.raises(RuntimeError, match="stop"), average.in_use():
        raise RuntimeError("stop")
    for name, values in all_weights(trainer.learner.model).items():
        assert np.array_equal(before[name], values)
