"""Checkpoints saved and loaded, beside ``torch.save`` of the same tensors."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlrm.bench.case import BenchCase
from dlrm.bench.contestants import Contestant, started
from dlrm.bench.machine import describe_machine, machine_lines
from dlrm.bench.measuring import case_on_disk
from dlrm.bench.our_loop import OurLoop
from dlrm.bench.pairs import Ratio, median_of, speed_ratio
from dlrm.bench.protocol import serve
from dlrm.bench.train import our_command
from dlrm.checkpoints.rotation import checkpoint_name
from dlrm.config.root import Config
from dlrm.embeddings.state import table_parts

_KINDS = ("save", "pause", "load", "torch_save", "torch_save_again", "torch_load")
_MEANINGS = {
    "save": "save, on the disk to stay",
    "pause": "the pause of training, written beside it",
    "load": "load, checksums and all",
    "torch_save": "torch.save of the same, flushed",
    "torch_load": "torch.load of the same",
}


def bench_checkpoints(
    config: Config,
    *,
    num_rounds: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure each way in turn, round after round, in one trained process."""
    machine = describe_machine()
    with case_on_disk(config, num_steps=2, code=code, report=report) as found:
        case, folder = found
        command = our_command("checkpoint", folder)
        with started({"dlrm": command}) as contestants:
            report(f"{num_rounds} rounds ...")
            process = contestants["dlrm"]
            facts = process.ask("facts")
            size = process.ask("size")
            seconds = _rounds(process, num_rounds)
    return {
        "measured": "checkpoint",
        "case": case.name,
        "machine": machine,
        "facts": facts,
        "num_rounds": num_rounds,
        "bytes": size,
        "seconds": {name: _figure(median_of(each)) for name, each in seconds.items()},
        "save_to_torch": _figure(speed_ratio(seconds["save"], seconds["torch_save"])),
        "load_to_torch": _figure(speed_ratio(seconds["load"], seconds["torch_load"])),
        "torch_save_to_itself": _figure(
            speed_ratio(seconds["torch_save_again"], seconds["torch_save"])
        ),
    }


def _rounds(process: Contestant, num_rounds: int) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for number in range(num_rounds + 1):
        for kind in _KINDS:
            seconds = process.ask("time", kind.removesuffix("_again"))
            if number:
                found[kind].append(seconds)
    return {kind: np.array(values) for kind, values in found.items()}


def _figure(found: Ratio) -> dict[str, float]:
    return {"median": found.median, "low": found.low, "high": found.high}


class _Checkpoints:
    """One trained model, written and read as asked."""

    def __init__(self, loop: OurLoop) -> None:
        self._learner = loop.trainer.learner
        self._root = loop.trainer.run.folder / "bench"
        self._step = 0
        self._plain = self._root / "plain.pt"

    def size(self, _: Any) -> int:
        """Return the bytes of a checkpoint's files."""
        self.time("save")
        folder = self._root / checkpoint_name(self._step)
        return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())

    def time(self, kind: str) -> float:
        """Return the seconds of one thing."""
        kinds: dict[str, Callable[[], object]] = {
            "save": lambda: self._save(beside=False),
            "pause": lambda: self._save(beside=True),
            "load": self._load,
            "torch_save": self._save_plain,
            "torch_load": lambda: torch.load(self._plain),
        }
        work = kinds[kind]
        # No earlier write is still on its way to the disk.
        self._learner.saver.wait()
        os.sync()
        started_at = time.perf_counter()
        work()
        spent = time.perf_counter() - started_at
        self._learner.saver.wait()
        return spent

    def _save(self, *, beside: bool) -> None:
        shutil.rmtree(self._root / checkpoint_name(self._step), ignore_errors=True)
        self._step += 1
        self._learner.save(
            self._root, step=self._step, state={}, then=_nothing, beside=beside
        )

    def _load(self) -> None:
        self._learner.load(self._root / checkpoint_name(self._step))

    def _save_plain(self) -> None:
        tables = {
            f"{part.table} {part.part.first_row}": part.columns
            for part in table_parts(self._learner.model)
        }
        dense = dict(self._learner.model.named_parameters())
        with self._plain.open("wb") as file:
            torch.save({"tables": tables, "dense": dense}, file)
            file.flush()
            os.fsync(file.fileno())


def serve_checkpoints(case: BenchCase) -> None:
    """Train a little, then save and load as asked."""
    loop = OurLoop(case)
    checkpoints = _Checkpoints(loop)
    serve(
        loop.turn,
        {"facts": loop.facts, "size": checkpoints.size, "time": checkpoints.time},
    )
    loop.close()


def _nothing() -> None:
    """Do nothing once a checkpoint is there."""


def format_checkpoints(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    megabytes = figures["bytes"] / 1e6
    lines = [*machine_lines(figures["machine"]), f"checkpoint of {megabytes:,.0f} MB"]
    for kind, meaning in _MEANINGS.items():
        found = figures["seconds"][kind]
        lines.append(
            f"{meaning:<44}{found['median']:>8.3f} s [{found['low']:.3f}, "
            f"{found['high']:.3f}] {megabytes / found['median']:>8,.0f} MB/s"
        )
    for name in ("save_to_torch", "load_to_torch", "torch_save_to_itself"):
        lines.append(f"{name.replace('_', ' '):<44}{Ratio(**figures[name])}")
    return "\n".join(lines)
