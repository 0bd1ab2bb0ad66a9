"""Reading a checkpoint, by all processes of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlrm.checkpoints.dense import (
    Weights,
    copy_dense,
    dense_tensors,
    load_optimizer,
    misfit,
    read_dense,
)
from dlrm.checkpoints.files import (
    ROW_STATES,
    STATE_FILE,
    TRAINING,
    WEIGHT,
    RowsFile,
    checksum,
    damaged,
    read_state_file,
    rows_files,
)
from dlrm.checkpoints.row_state import convert_row_state, describe_conversion
from dlrm.config.errors import RunError
from dlrm.distributed.job import ALONE, Job
from dlrm.embeddings.outline import table_outlines
from dlrm.embeddings.state import USES, TablePart, table_parts


def load_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer | None,
    training: Weights | None = None,
    job: Job = ALONE,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Copy a checkpoint into the model and, if given, its optimizer; return its state.

    All processes of the job call this; each reads its own parts of the tables, under
    whatever plan. Without ``dense_optimizer`` the weights alone are read, as evaluation
    needs them. ``training`` takes what ``save_checkpoint`` was given under that name.
    ``report`` gets a line for each table whose optimizer state had to be converted, on
    the first process.

    Raises:
        RunError: The checkpoint is damaged or is of another model; on all processes.
    """
    state = read_state(folder, job)
    if dense_optimizer is not None:
        for line in _conversions(state, model, job):
            if job.is_writer:
                report(line)
    job.together(lambda: _load(folder, state, model, dense_optimizer, training))
    return state


def read_state(folder: Path, job: Job = ALONE) -> dict[str, Any]:
    """Return ``state.json`` after checking every file of the checkpoint.

    All processes of the job call this; each checks some of the files.

    Raises:
        DamagedError: A file is missing or damaged; on all processes.
    """
    state = job.broadcast(
        job.together(lambda: read_state_file(folder) if job.is_writer else {})
    )
    job.together(lambda: _check_files(folder, state, job))
    return state


def _check_files(folder: Path, state: dict[str, Any], job: Job) -> None:
    if not (folder / STATE_FILE).is_file():
        raise RunError(
            f"The run directory must be on a file system that all processes share, but "
            f"process {job.rank} does not see {folder}."
        )
    files, sizes = state["files"], state["sizes"]
    for name in sorted(files)[job.rank :: job.world_size]:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise damaged(folder, name)
        # A file that was cut short is known without reading all of it.
        if path.stat().st_size != sizes.get(name, path.stat().st_size):
            raise damaged(folder, name)
        if _checksum(path, folder, name) != files[name]:
            raise damaged(folder, name)


def _checksum(path: Path, folder: Path, name: str) -> str:
    try:
        return checksum(path)
    except OSError as error:  # A disk with bad sectors.
        raise damaged(folder, name) from error


def _load(
    folder: Path,
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    training: Weights | None,
) -> None:
    tensors = read_dense(folder)
    own, _ = dense_tensors(model, None)
    given = training or {}
    own |= {f"{TRAINING}/{n}": t for n, t in given.items() if n in own}
    copy_dense(own, tensors, folder)
    for part in table_parts(model):
        columns = part.columns
        if optimizer is None:
            columns = {n: t for n, t in columns.items() if n in (WEIGHT, USES)}
        if training is not None:
            columns[TRAINING] = training[part.key]
        files = _whole_table(folder, part)
        entry = state["tables"][part.table]
        for file in files:
            _load_rows(file, part, columns, entry.get(ROW_STATES, {}))
        if optimizer is not None:
            part.set_step(entry["step"])
    if optimizer is not None:
        load_optimizer(optimizer, model, tensors, state["dense_optimizer"])


def _whole_table(folder: Path, part: TablePart) -> list[RowsFile]:
    files, covered = rows_files(folder, part.table), 0
    for file in files:
        covered = file.stop if file.start == covered else -1
    num_rows = part.config.num_embeddings
    if covered != num_rows:
        raise RunError(
            f"Table '{part.table}' must have {num_rows} rows, but checkpoint "
            f"{folder} holds {sum(file.stop - file.start for file in files)}. It is of "
            f"another data set or model."
        )
    return files


def _load_rows(
    file: RowsFile,
    part: TablePart,
    columns: dict[str, torch.Tensor],
    edges: dict[str, list[int]],
) -> None:
    """Copy what a file holds of a part into it; ``edges`` are ``ROW_STATES``."""
    first = part.part.first_row
    start = max(file.start, first)
    stop = min(file.stop, first + part.part.num_rows)
    if start >= stop:
        return
    rows = slice(start - file.start, stop - file.start)
    with file.opened() as opened:
        held = set(opened.keys())
        for name, live in columns.items():
            by_row = live.dim() == 1
            wanted = [file.stop - file.start]
            if not by_row:
                wanted.append(part.config.embedding_dim)
            elif name in edges:
                wanted.append(len(edges[name]) - 1)
            source = opened.get_slice(name) if name in held else None
            came = None if source is None else list(source.get_shape())
            if source is None or came != wanted:
                key = f"{part.table}.{name}"
                raise misfit(file.folder, key, wanted=wanted, came=came)
            values = source[rows] if by_row else source[rows, part.part.columns]
            if name in edges:
                values = convert_row_state(values, edges[name], part.part.columns)
            live[start - first : stop - first].copy_(values)


def _conversions(state: dict[str, Any], model: nn.Module, job: Job) -> Sequence[str]:
    lines = []
    for name, outline in table_outlines(model, job).items():
        kept = state["tables"].get(name, {}).get(ROW_STATES, {})
        for column in outline.row_states:
            old, new = kept.get(column, [0, outline.dim]), outline.edges
            if old != new:
                lines.append(describe_conversion(name, column, old=old, new=new))
    return lines
