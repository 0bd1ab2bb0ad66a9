from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.models import model_config
from dlrm.run import create_run
from dlrm.step_draws import step_seed
from dlrm.trainer import Trainer
from tests.models.harness import (
    State,
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    linear,
    numpy_state,
    preset,
)
from tests.runs import tiny_overrides


def second_half(state: State, name: str, c: np.ndarray) -> np.ndarray:
    """Return what stands beside c: Self-Mask, or the affine map."""
    if f"{name}.scale" in state:
        return state[f"{name}.scale"] * c + state[f"{name}.shift"]
    centred = c - c.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    weight, bias = (state[f"{name}.mask_norm.{part}"] for part in ("weight", "bias"))
    return c * np.maximum(weight * normed + bias, 0)


def branch_logit(state: State, name: str, x0: np.ndarray, num_layers: int):
    """Return the logit of one cross network over one head."""
    x = x0
    for layer in range(num_layers):
        c = linear(state, f"{name}.cross.maps.{layer}", x)
        both = np.concatenate(
            [c, second_half(state, f"{name}.cross.halves.{layer}", c)], axis=1
        )
        anchor = x if name == "exponential" else x0
        x = anchor * (both + state[f"{name}.cross.biases"][layer]) + x
    return linear(state, f"{name}.logit", x)


def heads(vectors: list[np.ndarray], num_heads: int) -> list[np.ndarray]:
    """Return each head's input: the first halves of its slices, then the second."""
    found = []
    for head in range(num_heads):
        halves = [
            np.split(np.split(vector, num_heads, axis=1)[head], 2, axis=1)
            for vector in vectors
        ]
        first, second = zip(*halves, strict=True)
        found.append(np.concatenate([*first, *second], axis=1))
    return found


@pytest.mark.parametrize("second", ["self_mask", "affine"])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_logits_are_those_of_the_paper(num_heads, second):
    model, batch, schema = built_on_mixed_widths(
        "fcn",
        linear_layers=2,
        exponential_layers=3,
        cross_heads=num_heads,
        second_half=second,
    )
    state = numpy_state(model)
    inputs = heads(field_vectors(state, "fields", batch, schema), num_heads)
    branches = [
        np.mean([branch_logit(state, name, x, layers) for x in inputs], axis=0)
        for name, layers in (("linear", 2), ("exponential", 3))
    ]
    assert_logits(model, batch, (branches[0] + branches[1]) / 2)


def test_training_keeps_the_logits_of_both_networks_for_the_loss():
    model, batch, _ = built_on_mixed_widths("fcn")
    model.train()
    logits = model(batch)
    held = model.branches.take()
    torch.testing.assert_close(torch.stack(held).mean(dim=0), logits)
    assert model.branches.take() == ()


def test_without_tri_bce_nothing_is_kept():
    model, _, _ = built_on_mixed_widths("fcn", tri_bce=False)
    assert model.branches is None


@pytest.mark.parametrize("tri_bce", ["true", "false"])
def test_a_run_minimises_the_loss_of_all_three_logits_or_of_one(
    tmp_path: Path, prepared: Path, tri_bce: str
):
    own = ["model=fcn", "model.embedding_dim=4", f"model.tri_bce={tri_bce}"]
    shared = tiny_overrides(tmp_path, "trainer.max_steps=1", prepared=prepared)
    config = compose([*own, *(s for s in shared if not s.startswith("model."))])
    dataset = Dataset.open(prepare_dataset(config.data))
    run = create_run(config, dataset=dataset.folder, code=[])
    trainer = Trainer(run, dataset, report=lambda line: None)
    model, (batch, *_) = trainer.learner.model, list(trainer.train_rows.batches(0, 0))

    # The first step's gradients, by automatic differentiation of the formula.
    torch.manual_seed(step_seed(0, 0))
    main = model(batch)
    parts = model.branches.take() if model.branches is not None else ()
    losses = [
        binary_cross_entropy_with_logits(logits[:, 0], batch.labels)
        for logits in (main, *parts)
    ]
    total = losses[0] + sum((x - losses[0]).relu() * x for x in losses[1:])
    expected = torch.autograd.grad(total, trainer.learner.dense_parameters)

    trainer.fit()
    found = [parameter.grad for parameter in trainer.learner.dense_parameters]
    assert len(losses) == (3 if tri_bce == "true" else 1)
    torch.testing.assert_close(found, list(expected), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"linear_layers": 0}, "model.linear_layers must be >= 1, but it is 0"),
        ({"exponential_layers": 0}, "model.exponential_layers must be >= 1"),
        ({"cross_heads": 0}, "model.cross_heads must be >= 1, but it is 0"),
        (
            {"embedding_dim": 6, "cross_heads": 2},
            "model.embedding_dim must be a multiple of 4, .* but it is 6",
        ),
        ({"dropout": 1.0}, "model.dropout"),
        ({"top_mlp": [8]}, "model.top_mlp"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        model_config(preset("fcn", **setting))
