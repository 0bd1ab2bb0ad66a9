"""Everything but the tables: a model's other tensors and their optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dlrm.checkpoints.files import DENSE_FILE, damaged
from dlrm.config.errors import RunError
from dlrm.embeddings.state import table_collections

Weights: TypeAlias = Mapping[str, torch.Tensor]
"""By ``model/<name>`` for dense tensors and ``TablePart.key`` for parts of tables."""


def dense_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Return live tensors by name, and the optimizer's other values by parameter.

    Tables are left out: they have files of their own.
    """
    own = table_collections(model)
    tables = tuple(
        f"{name}." for name, module in model.named_modules() if module in own
    )
    tensors = {
        f"model/{name}": tensor.detach()
        for name, tensor in model.state_dict(keep_vars=True).items()
        if not name.startswith(tables)
    }
    scalars: dict[str, dict[str, Any]] = {}
    if optimizer is not None:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for parameter, values in optimizer.state.items():
            name = names[id(parameter)]
            scalars[name] = {}
            for key, value in values.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer/{name}/{key}"] = value.contiguous()
                else:
                    scalars[name][key] = value
    return tensors, scalars


def read_dense(folder: Path) -> dict[str, torch.Tensor]:
    """Return ``model/<name>`` and ``optimizer/<parameter>/<state>`` of a checkpoint.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return load_file(folder / DENSE_FILE)
    except (OSError, SafetensorError) as error:
        raise damaged(folder, DENSE_FILE) from error


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    tensors: dict[str, torch.Tensor],
    scalars: dict[str, dict[str, Any]],
) -> None:
    """Give ``optimizer`` the state of those parameters that a checkpoint has one of."""
    state = optimizer.state_dict()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
        name = names[id(parameter)]
        prefix = f"optimizer/{name}/"
        found = {
            key.removeprefix(prefix): tensor
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }
        values = {**found, **scalars.get(name, {})}
        if values:
            state["state"][index] = values
    optimizer.load_state_dict(state)


def copy_dense(own: Weights, tensors: Weights, folder: Path) -> None:
    """Copy a checkpoint's dense tensors into those of a model.

    Raises:
        RunError: They are of another model.
    """
    for name, target in own.items():
        source = tensors.get(name)
        shape = None if source is None else list(source.shape)
        if source is None or shape != list(target.shape):
            raise misfit(folder, name, wanted=list(target.shape), came=shape)
        with torch.no_grad():
            target.copy_(source)


def misfit(
    folder: Path, name: str, *, wanted: list[int], came: list[int] | None
) -> RunError:
    """Return the error of a tensor that is not in a checkpoint as it should be."""
    held = "nothing" if came is None else f"shape {came}"
    return RunError(
        f"Checkpoint {folder} must hold '{name}' of shape {wanted}, "
        f"but it holds {held}. It is of another model or config."
    )
