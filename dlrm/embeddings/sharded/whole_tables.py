"""Whole tables, gathered from the processes that keep their parts, and spread again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn

from dlrm.config.sharding import Strategy
from dlrm.distributed.plan import Part
from dlrm.embeddings.state import TablePart, table_parts

_REPLICATED = (Strategy.data_parallel, None)


@dataclass(slots=True)
class WholeTable:
    """A table with its optimizer state, copied from all processes."""

    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    """``weight`` [num_embeddings, embedding_dim]; optimizer state and counters by
    canonical name, each of that shape or [num_embeddings]."""
    step: int = 0
    """Steps that bias correction has counted."""

    @property
    def weight(self) -> torch.Tensor:
        """[num_embeddings, embedding_dim]."""
        return self.columns["weight"]


def gather_tables(model: nn.Module, group: dist.ProcessGroup) -> dict[str, WholeTable]:
    """Return every table of ``model`` on every process, in CPU memory.

    All processes of ``group`` call this. A table must fit into one process's memory.
    """
    own = table_parts(model)
    live = {(part.table, part.part): part.columns for part in own}
    listed: list[list[_Listed]] = [[] for _ in range(group.size())]
    dist.all_gather_object(listed, [_list(part) for part in own], group=group)
    wholes: dict[str, WholeTable] = {}
    for rank, entries in enumerate(listed):
        for entry in entries:
            if entry.strategy in _REPLICATED and rank > 0:
                continue
            whole = wholes.setdefault(entry.table, WholeTable(step=entry.step))
            for name, (shape, dtype) in entry.columns.items():
                place = (entry.table, entry.part)
                mine = live[place][name] if group.rank() == rank else None
                values = _broadcast(mine, shape, dtype, rank, group)
                _place(whole, name, entry, values)
    return {name: wholes[name] for name in sorted(wholes)}


def load_tables(model: nn.Module, wholes: Mapping[str, WholeTable]) -> None:
    """Write whole tables into this process's parts of them."""
    for part in table_parts(model):
        whole, place = wholes[part.table], part.part
        for name, values in part.columns.items():
            source = whole.columns[name][place.rows]
            values.copy_(source if values.dim() == 1 else source[:, place.columns])
        part.set_step(whole.step)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the other processes must know of a part before its values come."""

    table: str
    strategy: Strategy | None
    part: Part
    rows: int
    dim: int
    step: int
    columns: dict[str, tuple[torch.Size, torch.dtype]]


def _list(part: TablePart) -> _Listed:
    return _Listed(
        table=part.table,
        strategy=part.strategy,
        part=part.part,
        rows=part.config.num_embeddings,
        dim=part.config.embedding_dim,
        step=part.bags.step,
        columns={name: (v.shape, v.dtype) for name, v in part.columns.items()},
    )


def _broadcast(
    mine: torch.Tensor | None,
    shape: torch.Size,
    dtype: torch.dtype,
    rank: int,
    group: dist.ProcessGroup,
) -> torch.Tensor:
    values = torch.empty(shape, dtype=dtype) if mine is None else mine.contiguous()
    on_gpu = dist.get_backend(group) == "nccl"
    values = values.cuda() if on_gpu else values
    # As bytes: gloo does not know every type that tables are stored in.
    flat = values.view(-1).view(torch.uint8)
    dist.broadcast(flat, src=dist.get_global_rank(group, rank), group=group)
    return values.cpu()


def _place(whole: WholeTable, name: str, entry: _Listed, values: torch.Tensor) -> None:
    if name not in whole.columns:
        shape = (entry.rows,) if values.dim() == 1 else (entry.rows, entry.dim)
        whole.columns[name] = torch.zeros(shape, dtype=values.dtype)
    target = whole.columns[name][entry.part.rows]
    (target if values.dim() == 1 else target[:, entry.part.columns]).copy_(values)
