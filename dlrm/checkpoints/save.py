"""Writing a checkpoint, by all processes of a job."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dlrm.checkpoints.blocks import Block, in_rounds, lay_out
from dlrm.checkpoints.contents import Contents, contents_of
from dlrm.checkpoints.dense import Weights
from dlrm.checkpoints.exchange import Live, collect
from dlrm.checkpoints.files import (
    DENSE_FILE,
    ROW_STATES,
    STATE_FILE,
    TABLES,
    checksum,
    quote_name,
    state_text,
)
from dlrm.checkpoints.rotation import checkpoint_name, remove_abandoned
from dlrm.config.busy import writing
from dlrm.config.durable import flush_to_disk, writing_to
from dlrm.config.errors import RunError, TrainingError
from dlrm.config.exchange import exchange
from dlrm.distributed.job import ALONE, Job
from dlrm.embeddings.finite import describe_bad_rows
from dlrm.embeddings.outline import TableOutline

FORMAT_VERSION = 2
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
        TrainingError: A table holds NaN or infinity.
        WriteError: It cannot be written; nothing is left of it. On a process that could
            write, it is an ``OtherRankError``.
    """
    contents = contents_of(model, dense_optimizer, training, job)
    return save_contents(root, step, contents, state, job)


def save_contents(
    root: Path, step: int, contents: Contents, state: dict[str, Any], job: Job
) -> Path:
    """Do what ``save_checkpoint`` does, from contents that may be copies.

    Copies of a process of its own may be written in another thread while the model is
    trained.
    """
    final = root / checkpoint_name(step)
    aside = root / f".writing-{final.name}"
    outlines = contents.outlines
    blocks = lay_out(
        outlines.values(),
        with_training=contents.has_training,
        world_size=job.world_size,
    )
    # The first to find the disk full says how much a whole checkpoint takes.
    needed = contents.num_bytes if job.world_size == 1 else None
    try:
        job.by_writer(lambda: _begin(aside, outlines))
        _check_shared(aside, job)
        written = _write_tables(aside, blocks, contents.tables, job, needed)
        content = {
            "format_version": FORMAT_VERSION,
            "step": step,
            **state,
            "tables": {name: _entry(table) for name, table in outlines.items()},
        }

        def end() -> None:
            found = _write(aside / DENSE_FILE, dict(contents.dense), needed)
            files = {**written, DENSE_FILE: found}
            content["dense_optimizer"] = contents.scalars
            content["files"] = {name: files[name][0] for name in sorted(files)}
            content["sizes"] = {name: files[name][1] for name in sorted(files)}
            _publish(aside, final, content)

        job.by_writer(end)
    except BaseException:
        if job.is_writer:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def _begin(aside: Path, outlines: Mapping[str, TableOutline]) -> None:
    with writing_to(aside):
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
    with writing_to(path):
        path.write_text(token)
    return token


Written = tuple[str, int]
"""A file's checksum and size."""


def _write_tables(
    aside: Path, blocks: list[Block], live: Live, job: Job, needed: int | None
) -> dict[str, Written]:
    """Write this process's files; return what all processes wrote, by name."""
    written, error = {}, None
    for together in in_rounds(blocks):
        own = collect(together, live, job)
        # Who cannot write still gives the others what they wait for.
        if own is not None and error is None:
            block, columns = own
            try:
                _refuse_bad_rows(block, columns)
                written[block.name] = _write(aside / block.name, columns, needed)
            except Exception as caught:
                error = caught
    job.agree(error)
    return {
        name: value for part in job.all_gather(written) for name, value in part.items()
    }


def _refuse_bad_rows(block: Block, columns: Mapping[str, torch.Tensor]) -> None:
    """Keep what a bad gradient has done to a table out of the checkpoints."""
    table = block.outline.table
    bad = describe_bad_rows(table, columns, first_row=block.start)
    if bad:
        raise TrainingError(
            f"A checkpoint must hold finite numbers alone, but not finite are: "
            f"{', '.join(bad)}. A gradient was not. The checkpoint before it is sound: "
            f"lower optimizer.sparse.lr or tables.{table}.optimizer.lr, and start a "
            f"new run, from there with init_from."
        )


def _write(path: Path, tensors: dict[str, torch.Tensor], needed: int | None) -> Written:
    with writing(path), writing_to(path, needed=needed):
        save_file(tensors, path)
        flush_to_disk(path)
        return checksum(path), path.stat().st_size


def _entry(table: TableOutline) -> dict[str, Any]:
    entry: dict[str, Any] = {"step": table.step}
    if table.row_states and len(table.edges) > 2:
        entry[ROW_STATES] = {name: table.edges for name in table.row_states}
    return entry


def _publish(aside: Path, final: Path, content: dict[str, Any]) -> None:
    """Give a checkpoint its state and its name, once all of it is on the disk."""
    with writing_to(final):
        (aside / STATE_FILE).write_text(state_text(content), encoding="utf-8")
        flush_to_disk(aside / STATE_FILE)
        for folder in [*aside.glob(f"{TABLES}/*"), *aside.glob(TABLES), aside]:
            flush_to_disk(folder)
        if final.exists():
            exchange(aside, final)
        else:
            aside.rename(final)
        flush_to_disk(final.parent)
        if aside.exists():
            shutil.rmtree(aside)  # The same step as it was saved before.
