"""Writing a checkpoint, by all processes of a job."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dlrm.checkpoints.blocks import Block, in_rounds, lay_out
from dlrm.checkpoints.dense import Weights, dense_tensors
from dlrm.checkpoints.exchange import Live, collect
from dlrm.checkpoints.files import (
    DENSE_FILE,
    ROW_STATES,
    STATE_FILE,
    TABLES,
    TRAINING,
    checksum,
    quote_name,
)
from dlrm.checkpoints.rotation import (
    checkpoint_name,
    remove_abandoned,
    remove_checkpoint,
)
from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import RunError
from dlrm.distributed.job import ALONE, Job
from dlrm.embeddings.outline import TableOutline, table_outlines
from dlrm.embeddings.state import table_parts

FORMAT_VERSION = 1
SECONDS_TO_SEE = 10.0
"""How long a file that another process has written may take to be seen."""
_TOKEN_FILE = ".token"


def save_checkpoint(
    root: Path,
    *,
    step: int,
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    training: Weights | None = None,
    job: Job = ALONE,
) -> Path:
    """Write ``root/step_<step>`` and return it; all processes of the job call this.

    ``state`` is JSON data kept in it, the first process's. ``training`` are the weights
    that training goes on with where the model holds others to predict with. A process
    that keeps part of a file another one writes sends it there, 256 MB at a time.

    Raises:
        RunError: The processes do not share ``root``.
        OSError: It cannot be written; nothing is left of it. On a process that could
            write, it is an ``OtherRankError``.
    """
    final = root / checkpoint_name(step)
    aside = root / f".writing-{final.name}"
    outlines = table_outlines(model, job)
    blocks = lay_out(
        outlines.values(),
        with_training=training is not None,
        world_size=job.world_size,
    )
    try:
        job.by_writer(lambda: _begin(aside, outlines))
        _check_shared(aside, job)
        written = _write_tables(aside, blocks, _live(model, training), job)
        content = {
            "format_version": FORMAT_VERSION,
            "step": step,
            **state,
            "tables": {name: _entry(table) for name, table in outlines.items()},
        }

        def end() -> None:
            scalars = _write_dense(aside, model, dense_optimizer, training or {})
            content["dense_optimizer"] = scalars
            files = {**written, DENSE_FILE: checksum(aside / DENSE_FILE)}
            content["files"] = {name: files[name] for name in sorted(files)}
            _publish(aside, final, content)

        job.by_writer(end)
    except BaseException:
        if job.is_writer:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def _begin(aside: Path, outlines: dict[str, TableOutline]) -> None:
    remove_abandoned(aside.parent)
    for name in outlines:
        (aside / TABLES / quote_name(name)).mkdir(parents=True)
    aside.mkdir(parents=True, exist_ok=True)


def _check_shared(aside: Path, job: Job) -> None:
    """Refuse a run directory that is another folder to another process."""
    if job.world_size == 1:
        return
    path = aside / _TOKEN_FILE
    written = job.by_writer(lambda: _write_token(path))

    def check() -> None:
        deadline = time.monotonic() + SECONDS_TO_SEE
        while not path.is_file() or path.read_text() != written:
            if time.monotonic() > deadline:
                raise RunError(
                    f"The run directory must be on a file system that all processes "
                    f"share, but process {job.rank} does not see in {aside.parent} "
                    f"what process 0 writes there. Set output to a shared folder."
                )
            time.sleep(0.05)

    job.together(check)
    job.by_writer(path.unlink)


def _write_token(path: Path) -> str:
    token = uuid.uuid4().hex
    path.write_text(token)
    return token


def _live(model: nn.Module, training: Weights | None) -> Live:
    found = {}
    for part in table_parts(model):
        columns = part.columns
        if training is not None:
            columns[TRAINING] = training[part.key]
        place = part.part
        found[part.table, place.first_row, place.first_column] = columns
    return found


def _write_tables(
    aside: Path, blocks: list[Block], live: Live, job: Job
) -> dict[str, str]:
    """Write this process's files; return the checksums of all processes' by name."""
    written, error = {}, None
    for together in in_rounds(blocks):
        own = collect(together, live, job)
        # Who cannot write still gives the others what they wait for.
        if own is not None and error is None:
            block, columns = own
            try:
                written[block.name] = _write(aside / block.name, columns)
            except Exception as caught:
                error = caught
    job.agree(error)
    return {
        name: value for part in job.all_gather(written) for name, value in part.items()
    }


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    save_file(tensors, path)
    flush_to_disk(path)
    return checksum(path)


def _write_dense(
    aside: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Weights,
) -> dict[str, Any]:
    """Write the dense tensors; return the optimizer's values that are none."""
    tensors, scalars = dense_tensors(model, optimizer)
    tensors |= {f"{TRAINING}/{n}": t for n, t in training.items() if n in tensors}
    save_file(tensors, aside / DENSE_FILE)
    flush_to_disk(aside / DENSE_FILE)
    return scalars


def _entry(table: TableOutline) -> dict[str, Any]:
    entry: dict[str, Any] = {"step": table.step}
    if table.row_states and len(table.edges) > 2:
        entry[ROW_STATES] = {name: table.edges for name in table.row_states}
    return entry


def _publish(aside: Path, final: Path, content: dict[str, Any]) -> None:
    """Give a checkpoint its state and its name, once all of it is on the disk."""
    (aside / STATE_FILE).write_text(json.dumps(content, indent=2) + "\n")
    flush_to_disk(aside / STATE_FILE)
    for folder in [*aside.glob(f"{TABLES}/*"), *aside.glob(TABLES), aside]:
        flush_to_disk(folder)
    if final.exists():
        remove_checkpoint(final)
    aside.rename(final)
    flush_to_disk(final.parent)
