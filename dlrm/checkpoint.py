"""Checkpoints: complete or absent, never half, and nothing pickled.

A checkpoint is a folder ``step_000000500`` with the dense part and the tables in
safetensors, rows in global coordinates, and ``state.json``, which names every file with
its checksum. It is written aside, flushed to disk and renamed.
"""

from __future__ import annotations

import json
import shutil
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import RunError
from dlrm.embeddings.local import local_collections
from dlrm.embeddings.state import USES, TableState, table_states

STATE_FILE = "state.json"
DENSE_FILE = "dense.safetensors"
BEST_FILE = "best.json"
FORMAT_VERSION = 1
_MAX_FILE_BYTES = 256 * 2**20
_TRAINING = "training"

Weights: TypeAlias = Mapping[str, torch.Tensor]
"""By ``model/<name>`` for dense tensors and ``table/<table>`` for tables."""


@dataclass(frozen=True, slots=True)
class TablePart:
    """Neighbouring rows of one table as a checkpoint holds them."""

    start: int
    stop: int
    columns: dict[str, torch.Tensor]
    """``weight`` and the optimizer state by canonical name, each [rows, ...]; beside
    them ``training`` where ``weight`` is an average of training's own weights."""

    @property
    def optimizer(self) -> dict[str, torch.Tensor]:
        """The optimizer state alone."""
        others = ("weight", _TRAINING, USES)
        return {n: t for n, t in self.columns.items() if n not in others}


def save_checkpoint(
    root: Path,
    *,
    step: int,
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    training: Weights | None = None,
) -> Path:
    """Write ``root/step_<step>`` and return it.

    ``state`` is JSON data kept in it. ``training`` are the weights that training goes
    on with where the model holds others to predict with.
    """
    training = training or {}
    final = root / f"step_{step:09d}"
    for abandoned in root.glob(".*-step_*"):
        shutil.rmtree(abandoned)
    aside = root / f".writing-{final.name}"
    aside.mkdir(parents=True)
    try:
        tensors, scalars = dense_tensors(model, dense_optimizer)
        tensors |= {f"{_TRAINING}/{n}": t for n, t in training.items() if n in tensors}
        save_file(tensors, aside / DENSE_FILE)
        tables = table_states(model)
        for name, table in tables.items():
            own = training.get(f"table/{name}")
            _save_table(aside / "tables" / quote_name(name), table, own)
        content = {
            "format_version": FORMAT_VERSION,
            "step": step,
            **state,
            "dense_optimizer": scalars,
            "tables": {name: {"step": table.step} for name, table in tables.items()},
            "files": {
                str(path.relative_to(aside)): _checksum(path) for path in _files(aside)
            },
        }
        (aside / STATE_FILE).write_text(json.dumps(content, indent=2) + "\n")
        for path in _files(aside):
            flush_to_disk(path)
        flush_to_disk(aside)
        if final.exists():
            _remove(final)
        aside.rename(final)
        flush_to_disk(root)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def load_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer | None,
    training: Weights | None = None,
) -> dict[str, Any]:
    """Copy a checkpoint into the model and, if given, its optimizer; return its state.

    Without ``dense_optimizer`` the weights alone are read, as evaluation needs them.
    ``training`` takes what ``save_checkpoint`` was given under that name.

    Raises:
        RunError: The checkpoint is damaged or is of another model.
    """
    state = read_state(folder)
    tensors = read_dense(folder)
    own, _ = dense_tensors(model, None)
    training = training or {}
    own |= {f"{_TRAINING}/{n}": t for n, t in training.items() if n in own}
    for name, tensor in own.items():
        _copy(tensor, tensors.get(name), name=name, folder=folder)
    for name, table in table_states(model).items():
        weights_only = dense_optimizer is None
        columns = _columns(table, training.get(f"table/{name}"), weights_only)
        _load_table(folder, name=name, columns=columns)
        if not weights_only:
            table.set_step(state["tables"][name]["step"])
    if dense_optimizer is not None:
        load_optimizer(dense_optimizer, model, tensors, state["dense_optimizer"])
    return state


def read_state(folder: Path) -> dict[str, Any]:
    """Return ``state.json`` after checking every file of the checkpoint.

    Raises:
        RunError: A file is missing or damaged.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text())
        files = dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, STATE_FILE) from error
    for name, checksum in files.items():
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
        if not inside or not path.is_file() or _checksum(path) != checksum:
            raise _damaged(folder, name)
    return state


def read_dense(folder: Path) -> dict[str, torch.Tensor]:
    """Return ``model/<name>`` and ``optimizer/<parameter>/<state>`` of a checkpoint.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return load_file(folder / DENSE_FILE)
    except (OSError, SafetensorError) as error:
        raise _damaged(folder, DENSE_FILE) from error


def table_parts(folder: Path, table: str) -> Iterator[TablePart]:
    """Read a table of a checkpoint part by part; none where it has no such table.

    Raises:
        RunError: A file is damaged.
    """
    for path in (folder / "tables" / quote_name(table)).glob("rows_*.safetensors"):
        try:
            start, stop = (int(part) for part in path.stem.split("_")[1:])
            columns = load_file(path)
        except (OSError, ValueError, SafetensorError) as error:
            raise _damaged(folder, str(path.relative_to(folder))) from error
        yield TablePart(start, stop, columns)


def list_checkpoints(root: Path) -> list[Path]:
    """Return the complete checkpoints under ``root``, oldest first."""
    return sorted(path for path in root.glob("step_*") if (path / STATE_FILE).is_file())


def mark_best(root: Path, *, step: int, metric: str, value: float) -> None:
    """Record which checkpoint is the best; ``root/best.json`` is replaced whole."""
    content = {"checkpoint": f"step_{step:09d}", "step": step, metric: value}
    aside = root / f".{BEST_FILE}"
    aside.write_text(json.dumps(content) + "\n")
    flush_to_disk(aside)
    aside.replace(root / BEST_FILE)


def best_checkpoint(root: Path) -> Path:
    """Return the best checkpoint, or the newest where none was marked.

    Raises:
        RunError: There is no complete checkpoint, or the mark is damaged.
    """
    checkpoints = list_checkpoints(root)
    if not checkpoints:
        raise RunError(
            f"A run must hold a complete checkpoint, but {root} has none. "
            f"Train it first: dlrm train run={root.parent}"
        )
    if not (root / BEST_FILE).is_file():
        return checkpoints[-1]
    try:
        marked = root / json.loads((root / BEST_FILE).read_text())["checkpoint"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{root / BEST_FILE} must name the best checkpoint, but it is damaged. "
            f"Delete it to use the newest checkpoint."
        ) from error
    return marked if marked in checkpoints else checkpoints[-1]


def remove_old_checkpoints(root: Path, *, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and the best one."""
    best = best_checkpoint(root)
    for path in list_checkpoints(root)[:-keep]:
        if path != best:
            _remove(path)


def _remove(folder: Path) -> None:
    # Renamed first: whoever looks, after any crash, sees it whole or not at all.
    shutil.rmtree(folder.rename(folder.with_name(f".removing-{folder.name}")))


def quote_name(name: str) -> str:
    """Return a table's name as a file name that cannot leave its folder."""
    return urllib.parse.quote(name, safe="").replace(".", "%2E")


def dense_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Return live tensors by name, and the optimizer's other values by parameter.

    Tables are left out: they have files of their own.
    """
    own = local_collections(model)
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


def _columns(
    table: TableState, training: torch.Tensor | None, weights_only: bool = False
) -> dict[str, torch.Tensor]:
    """Return what a table's files hold, by name; see ``TablePart``."""
    read = (USES,) if weights_only else tuple(table.optimizer)
    columns = {name: t for name, t in table.optimizer.items() if name in read}
    if training is not None:
        columns[_TRAINING] = training
    return {"weight": table.weight, **columns}


def _save_table(folder: Path, table: TableState, training: torch.Tensor | None) -> None:
    folder.mkdir(parents=True)
    columns = _columns(table, training)
    num_rows = table.weight.shape[0]
    row_bytes = sum(t[:1].numel() * t.element_size() for t in columns.values())
    rows_per_file = max(_MAX_FILE_BYTES // max(row_bytes, 1), 1)
    for start in range(0, num_rows, rows_per_file):
        stop = min(start + rows_per_file, num_rows)
        part = {name: t[start:stop].contiguous() for name, t in columns.items()}
        save_file(part, folder / f"rows_{start}_{stop}.safetensors")


def _load_table(folder: Path, *, name: str, columns: dict[str, torch.Tensor]) -> None:
    num_rows, covered = len(columns["weight"]), 0
    for part in table_parts(folder, name):
        covered += part.stop - part.start
        for key, tensor in columns.items():
            target, source = tensor[part.start : part.stop], part.columns.get(key)
            _copy(target, source, name=f"{name}.{key}", folder=folder)
    if covered != num_rows:
        raise RunError(
            f"Table '{name}' must have {num_rows} rows, but checkpoint "
            f"{folder} holds {covered}. It is of another data set or model."
        )


def _copy(
    target: torch.Tensor, source: torch.Tensor | None, *, name: str, folder: Path
) -> None:
    if source is None or source.shape != target.shape:
        came = "nothing" if source is None else f"shape {list(source.shape)}"
        raise RunError(
            f"Checkpoint {folder} must hold '{name}' of shape {list(target.shape)}, "
            f"but it holds {came}. It is of another model or config."
        )
    with torch.no_grad():
        target.copy_(source)


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _checksum(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            value = zlib.crc32(block, value)
    return f"crc32:{value:08x}"


def _damaged(folder: Path, name: str) -> RunError:
    return RunError(
        f"Checkpoint {folder} must be whole, but {name} is missing or damaged. "
        f"Delete the folder to go on from the checkpoint before it."
    )
