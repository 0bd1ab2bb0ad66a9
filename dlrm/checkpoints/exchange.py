"""Rows on their way from the processes that keep them to the one that writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist

from dlrm.checkpoints.blocks import Block, Piece
from dlrm.distributed.job import Job

Live = Mapping[tuple[str, int, int], Mapping[str, torch.Tensor]]
"""This process's columns by table, first row and first column of the part."""


def collect(
    blocks: Iterable[Block], live: Live, job: Job
) -> tuple[Block, dict[str, torch.Tensor]] | None:
    """Return the one of ``blocks`` that this process writes, with its columns on CPU.

    All processes call this with the same blocks, no two of one writer; a process that
    neither keeps nor writes any of them is not waited for.
    """
    own, waits, landed = None, [], []
    kept: list[torch.Tensor] = []
    for block in blocks:
        mine = block.writer == job.rank
        pieces = list(block.pieces())
        if mine:
            whole = _if_whole(pieces, live, job.rank)
            own = block, block.empty() if whole is None else whole
            if whole is not None:
                continue
        for piece in pieces:
            is_source = piece.part.rank == job.rank
            if mine and own is not None and is_source:
                piece.place(own[1]).copy_(_given(piece, live))
            elif is_source:
                # As bytes: gloo does not know every type that tables are stored in.
                values = _given(piece, live).cpu().contiguous()
                kept.append(values)
                waits.append(_send(values, block.writer, job))
            elif mine and own is not None:
                place = piece.place(own[1])
                values = place
                # A single value is contiguous whatever its stride.
                if not place.is_contiguous() or place.stride()[-1] != 1:
                    values = torch.empty(place.shape, dtype=place.dtype)
                    landed.append((place, values))
                waits.append(_receive(values, piece.part.rank, job))
    for wait in waits:
        wait.wait()
    for place, values in landed:
        place.copy_(values)
    return own


def _given(piece: Piece, live: Live) -> torch.Tensor:
    part = piece.part
    columns = live[piece.block.outline.table, part.first_row, part.first_column]
    return piece.given(columns[piece.column])


def _if_whole(
    pieces: list[Piece], live: Live, rank: int
) -> dict[str, torch.Tensor] | None:
    """Return the columns as they lie here, where one part holds all of the block."""
    if len({piece.part for piece in pieces}) > 1 or pieces[0].part.rank != rank:
        return None
    return {p.column: _given(p, live).cpu().contiguous() for p in pieces}


def _send(values: torch.Tensor, rank: int, job: Job) -> dist.Work:
    work = dist.isend(_bytes(values), group=job.control, group_dst=rank)
    assert work is not None
    return work


def _receive(values: torch.Tensor, rank: int, job: Job) -> dist.Work:
    work = dist.irecv(_bytes(values), group=job.control, group_src=rank)
    assert work is not None
    return work


def _bytes(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1).view(torch.uint8)
