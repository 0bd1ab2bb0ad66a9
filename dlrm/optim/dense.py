"""Optimizers of the dense parameters, by their name in ``torch.optim``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import DenseOptimizer

# LBFGS steps through a closure, and SparseAdam takes sparse gradients, which dense
# parameters never have.
_REFUSED = {"LBFGS", "SparseAdam", "Optimizer"}


def build_dense_optimizer(
    parameters: Iterable[nn.Parameter], section: DenseOptimizer
) -> torch.optim.Optimizer:
    """Build ``torch.optim.<name>``; the fused kernel is used where there is one.

    Raises:
        ConfigError: The name or an option is not one of ``torch.optim``'s.
    """
    optimizer_class = _optimizer_class(section.name)
    known = inspect.signature(optimizer_class).parameters
    options = dict(section.options)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"optimizer.dense.options takes arguments of torch.optim."
            f"{optimizer_class.__name__} ({', '.join(list(known)[1:])}), "
            f"but got {', '.join(unknown)}."
        )
    options["lr"] = section.lr
    if "weight_decay" in known:
        options["weight_decay"] = section.weight_decay
    elif section.weight_decay:
        raise ConfigError(
            f"optimizer.dense.weight_decay must be 0 for {optimizer_class.__name__}, "
            f"which has none, but it is {section.weight_decay}."
        )
    if "fused" in known and not {"foreach", "differentiable"} & set(options):
        options.setdefault("fused", True)
    try:
        return optimizer_class(list(parameters), **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"optimizer.dense must suit torch.optim.{optimizer_class.__name__}, "
            f"but it was refused: {error}"
        ) from error


def check_dense_optimizer(section: DenseOptimizer) -> None:
    """Refuse a section that ``build_dense_optimizer`` would refuse.

    Raises:
        ConfigError: The name or an option is not one of ``torch.optim``'s.
    """
    build_dense_optimizer([nn.Parameter(torch.zeros(1))], section)


def dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that the dense optimizer steps: all but the tables."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if ".embedding_bags." not in name and parameter.requires_grad
    ]


def _optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    classes = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and key not in _REFUSED
    }
    found = classes.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), classes, n=1)
        hint = f" Did you mean {classes[near[0]].__name__}?" if near else ""
        names = ", ".join(sorted(value.__name__ for value in classes.values()))
        raise ConfigError(
            f"optimizer.dense.name must be one of {names}, but it is '{name}'.{hint}"
        )
    return found
