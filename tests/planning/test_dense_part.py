"""The dense part is measured on tiny batches and known for all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dlrm.config.optimizer import DenseOptimizer
from dlrm.models import build_model, built_in_models, model_config
from dlrm.planning.dense_part import Polynomial, measure_dense_part
from tests.builders import small_schema
from tests.models.sharded_slices import every_kind_of_feature

ADAM = DenseOptimizer(name="Adam")


class Layers(nn.Module):
    """Two layers on the dense columns: x [B, 2] -> [B, 3] -> [B, 1]."""

    def __init__(self, batch_loss: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)
        self.batch_loss = batch_loss

    def forward(self, batch):
        hidden = torch.relu(self.first(batch.dense))
        if self.batch_loss:
            return (hidden @ hidden.t()).exp()
        return self.last(hidden)


def measure(model: nn.Module):
    schema = small_schema(num_dense=2, widths=())
    return measure_dense_part(model, schema, optimizer=ADAM, average_lengths={})


def test_bytes_and_operations_of_two_layers_are_counted():
    found = measure(Layers())
    numbers = 2 * 3 + 3 + 3 + 1
    assert found.parameter_bytes == 4 * numbers
    # Two moments a number, and a count of steps a parameter.
    assert found.optimizer_bytes == 2 * 4 * numbers + 4 * 4
    # Kept: the input [B, 2] and relu's output [B, 3], which the last layer shares.
    assert found.activation_bytes(100) == 100 * (2 + 3) * 4
    # Forward: 2 B (2 * 3 + 3). Backward: each weight, and the last layer's input.
    assert found.flops.at(100) == 100 * (2 * 9 + 2 * 9 + 2 * 3)


def test_what_grows_with_the_square_of_the_batch_is_known_too():
    found = measure(Layers(batch_loss=True))
    # exp keeps its output [B, B]; the product keeps [B, 3], which relu shares.
    assert found.activation_bytes(100) == (100 * 100 + 100 * (2 + 3)) * 4


def test_a_polynomial_goes_through_its_points():
    squares = Polynomial(((1, 5), (2, 8), (4, 20)))  # x^2 + 4
    assert [squares.at(x) for x in (1, 2, 3, 4, 10)] == [5, 8, 13, 20, 104]
    assert Polynomial().at(7) == 0


def test_the_model_and_the_generator_are_left_alone():
    schema = small_schema()
    model = build_model(
        model_config({"name": "dlrm", "embedding_dim": 4, "dropout": 0.5}), schema
    )
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = measure_dense_part(model, schema, optimizer=ADAM, average_lengths={})
    assert found.activation_bytes(8) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert list(model.state_dict()) == list(before)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        if not parameter.is_meta:
            assert torch.equal(parameter, before[name])


def test_a_model_that_does_not_run_is_told_of():
    class Broken(nn.Module):
        def forward(self, batch):
            raise RuntimeError("no such day")

    assert "no such day" in measure(Broken()).note
    without = measure_dense_part(Layers(), None, optimizer=ADAM, average_lengths={})
    assert "schema" in without.note
    assert without.parameter_bytes == 4 * 13


@pytest.mark.parametrize("name", sorted(built_in_models() - {"two_tower"}))
def test_every_model_can_be_measured(name: str):
    schema = every_kind_of_feature()
    model = build_model(model_config({"name": name, "embedding_dim": 8}), schema)
    found = measure_dense_part(model, schema, optimizer=ADAM, average_lengths={})
    assert found.note == ""
    assert found.activation_bytes(64) > found.activation_bytes(32) > 0
