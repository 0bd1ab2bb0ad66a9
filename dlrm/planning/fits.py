"""Whether a process of its own has room for a model, asked before it is made."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.byte_size import shown_bytes
from dlrm.config.errors import ConfigError
from dlrm.config.memory import free_memory
from dlrm.config.optimizer import SparseOptimizer
from dlrm.planning.table_loads import TableLoad, table_loads

BESIDE = 256 * 10**6
"""Bytes for batches, activations and libraries' own buffers, at the least."""
_NUM_SHOWN = 3
_DENSE_COPIES = 4
"""A dense parameter, its gradient, and two numbers of optimizer state."""


def check_memory(
    model: nn.Module,
    *,
    optimizer: SparseOptimizer,
    averaged: bool,
    device: torch.device,
) -> None:
    """Refuse a model whose tables would not fit the memory that is free.

    The kernel would end the process without a word, after minutes of work perhaps.
    ``model`` holds plain collections on the meta device. ``averaged`` says that a
    moving average takes as much as the weights.

    Raises:
        ConfigError: It does not fit; the largest tables are named.
    """
    if device.type == "cuda":
        free, place = torch.cuda.mem_get_info(device)[0], "of this GPU"
    else:
        free, place = free_memory(), "that this process may take"
    loads = list(table_loads(model, optimizer, {}).values())
    sizes = {load.name: _bytes(load, averaged) for load in loads}
    dense = _dense_bytes(model) * (_DENSE_COPIES + averaged)
    needed = sum(sizes.values()) + dense + BESIDE
    if needed <= free:
        return
    raise ConfigError(
        f"Training must fit into the {shown_bytes(free)} of memory {place}, but it "
        f"needs about {shown_bytes(needed)}: {shown_bytes(sum(sizes.values()))} for "
        f"{len(loads)} tables with their optimizer state, {shown_bytes(dense)} for the "
        f"dense part and {shown_bytes(BESIDE)} beside them. {_largest(loads, sizes)} "
        f"{_advice(loads, averaged)} trainer.check_memory=false tries it all the same."
    )


def _bytes(load: TableLoad, averaged: bool) -> int:
    copies = load.weights(load.num_rows, load.width) if averaged else 0
    return load.total + copies


def _dense_bytes(model: nn.Module) -> int:
    kinds = (EmbeddingBagCollection, EmbeddingCollection)
    tables = {
        parameter
        for module in model.modules()
        if isinstance(module, kinds)
        for parameter in module.parameters()
    }
    dense = (parameter for parameter in model.parameters() if parameter not in tables)
    return sum(parameter.numel() * parameter.element_size() for parameter in dense)


def _largest(loads: Collection[TableLoad], sizes: dict[str, int]) -> str:
    largest = sorted(loads, key=lambda load: -sizes[load.name])[:_NUM_SHOWN]
    shown = ", ".join(
        f"{load.name} {shown_bytes(sizes[load.name])} ({load.num_rows:,} rows of "
        f"{load.width})"
        for load in largest
    )
    return f"Largest: {shown}."


def _advice(loads: Collection[TableLoad], averaged: bool) -> str:
    halves = sum(
        load.weights(load.num_rows, load.width) // 2
        for load in loads
        if load.weight_bytes == 4
    )
    state = sum(
        load.num_rows * load.width * load.state_bytes_per_value for load in loads
    )
    ways = [
        "fewer rows (num_embeddings of the features, or tables.<name>.compression)",
        "a smaller model.embedding_dim",
    ]
    if halves and not averaged:
        ways.append(f"model.embedding_dtype=float16 ({shown_bytes(halves)} less)")
    if state:
        name = "optimizer.sparse.name=rowwise_adagrad"
        ways.append(f"{name} ({shown_bytes(state)} less)")
    if averaged:
        ways.append("no trainer.average_decay")
    return f"What helps: {'; '.join(ways)}; launcher.processes on more machines."
