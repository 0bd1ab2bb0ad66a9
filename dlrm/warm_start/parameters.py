"""Dense parameters of an old checkpoint into a new model, by name and shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlrm.checkpoints.dense import dense_tensors, load_optimizer, read_dense
from dlrm.warm_start.record import ParameterMapping

_MODEL = "model/"


def map_parameters(model: nn.Module, folder: Path) -> ParameterMapping:
    """Copy every dense tensor that the checkpoint has with the same name and shape.

    Raises:
        RunError: The checkpoint is damaged.
    """
    old = read_dense(folder)
    own, _ = dense_tensors(model, None)
    mapping = ParameterMapping()
    for key, tensor in own.items():
        name, reason = key.removeprefix(_MODEL), _misfit(tensor, old.get(key))
        if reason:
            mapping.not_mapped[name] = reason
            continue
        with torch.no_grad():
            tensor.copy_(old[key])
        mapping.mapped.append(name)
    others = sorted(old.keys() - own.keys())
    mapping.dropped = [k.removeprefix(_MODEL) for k in others if k.startswith(_MODEL)]
    return mapping


def map_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    folder: Path,
    scalars: dict[str, dict[str, Any]],
    mapped: list[str],
) -> None:
    """Give the ``mapped`` parameters the checkpoint's optimizer state.

    ``scalars`` are those values of it that are no tensors, by parameter.
    """
    prefixes = tuple(f"optimizer/{name}/" for name in mapped)
    old = read_dense(folder)
    tensors = {key: old[key] for key in old if key.startswith(prefixes)}
    kept = {name: scalars[name] for name in mapped if name in scalars}
    load_optimizer(optimizer, model, tensors, kept)


def _misfit(own: torch.Tensor, given: torch.Tensor | None) -> str:
    if given is None:
        return "the old run has none of that name"
    if own.shape != given.shape:
        return f"shape {list(own.shape)}, was {list(given.shape)}"
    if own.dtype != given.dtype:
        return f"type {own.dtype}, was {given.dtype}"
    return ""
