from __future__ import annotations

import pytest
import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import DenseOptimizer
from dlrm.optim.dense import build_dense_optimizer


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize(
    "name", ["adam", "SGD", "AdamW", "adagrad", "RMSprop", "NAdam", "radam", "Adamax"]
)
def test_a_name_in_any_case_steps_the_parameters(name: str):
    values = parameters()
    optimizer = build_dense_optimizer(values, DenseOptimizer(name=name, lr=0.1))
    values[0].square().sum().backward()
    optimizer.step()
    assert type(optimizer).__name__.lower() == name.lower()
    assert (values[0] < 1).all()


def test_sgd_steps_by_its_formula():
    values = parameters()
    section = DenseOptimizer(name="sgd", lr=0.1, weight_decay=0.5)
    optimizer = build_dense_optimizer(values, section)
    values[0].square().sum().backward()
    optimizer.step()
    # w - lr * (2 w + decay * w) at w = 1
    torch.testing.assert_close(values[0].detach(), torch.full((3,), 1 - 0.1 * 2.5))


def test_options_reach_the_class():
    section = DenseOptimizer(name="SGD", options={"momentum": 0.9})
    optimizer = build_dense_optimizer(parameters(), section)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_an_unknown_name_is_refused_with_a_near_match():
    with pytest.raises(ConfigError, match="it is 'adm'. Did you mean Adam?"):
        build_dense_optimizer(parameters(), DenseOptimizer(name="adm"))


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Optimizer"])
def test_optimizers_that_cannot_step_dense_parameters_are_refused(name: str):
    with pytest.raises(ConfigError, match=f"it is '{name}'"):
        build_dense_optimizer(parameters(), DenseOptimizer(name=name))


def test_an_unknown_option_is_named():
    section = DenseOptimizer(name="Adam", options={"momentm": 1})
    with pytest.raises(ConfigError, match="but got momentm"):
        build_dense_optimizer(parameters(), section)


def test_a_value_that_the_class_refuses_is_a_config_error():
    section = DenseOptimizer(name="SGD", options={"momentum": -1.0})
    with pytest.raises(ConfigError, match="Invalid momentum value: -1.0"):
        build_dense_optimizer(parameters(), section)
