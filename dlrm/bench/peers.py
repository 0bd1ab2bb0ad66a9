"""Yardsticks and limits as processes: ``python -m dlrm.bench.peers NAME FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dlrm.bench.bare_loop import BareLoop
from dlrm.bench.case import BenchCase
from dlrm.bench.embedding_bags import EmbeddingBagsLoop
from dlrm.bench.limits import measure_limits
from dlrm.bench.protocol import serve
from dlrm.bench.yardstick import Shape, batches_in_memory, shape_of
from dlrm.data.storage.dataset import Dataset
from dlrm.distributed.device import choose_device
from dlrm.optim.precision import products_in
from dlrm.run import model_schema

YARDSTICKS = {
    "bare": "a bare loop over fbgemm's tables",
    "embedding_bags": "a stand-in for facebookresearch/dlrm",
}


def peer_command(name: str, folder: Path) -> list[str]:
    """Return the command that starts a peer on a case's folder."""
    return [sys.executable, "-m", "dlrm.bench.peers", name, str(folder)]


def bare_loop(case: BenchCase) -> BareLoop:
    """Return the bare loop of a case."""
    shape, device = _shape(case), choose_device(case.config.trainer.device)
    torch.manual_seed(0)
    batches = batches_in_memory(case.config, Dataset.open(case.dataset), device=device)
    optimizer = case.config.optimizer
    return BareLoop(
        shape,
        optimizer=optimizer,
        batches=batches,
        device=device,
        precision=case.config.trainer.precision,
    )


def _embedding_bags(case: BenchCase) -> EmbeddingBagsLoop:
    shape, device = _shape(case), torch.device("cpu")
    torch.manual_seed(0)
    batches = batches_in_memory(case.config, Dataset.open(case.dataset), device=device)
    return EmbeddingBagsLoop(shape, optimizer=case.config.optimizer, batches=batches)


def _shape(case: BenchCase) -> Shape:
    schema = Dataset.open(case.dataset, verify=False).schema
    found = shape_of(case.config, model_schema(case.config, schema))
    assert isinstance(found, Shape), found
    return found


def _turns(name: str, case: BenchCase) -> Callable[[], int]:
    match name:
        case "bare":
            loop = bare_loop(case)
            return lambda: loop.run(case.num_steps)
        case "bare_forward":
            forward = bare_loop(case)
            return lambda: forward.predict(case.num_steps)
        case "embedding_bags":
            bags = _embedding_bags(case)
            return lambda: bags.run(case.num_steps)
        case "dataloader":
            from dlrm.bench.load import dataloader_turn

            return dataloader_turn(case)
    assert name == "limits", name
    return lambda: 1


def _limits(case: BenchCase, sizes: dict[str, Any]) -> dict[str, Any]:
    return measure_limits(
        [tuple(gemm) for gemm in sizes["gemms"]],
        width=sizes["width"],
        num_rows=sizes["num_rows"],
        device=choose_device(case.config.trainer.device),
        precision=case.config.trainer.precision,
    )


def main(name: str, folder: Path) -> None:
    """Serve one peer until stdin ends."""
    case = BenchCase.load(folder, lambda files: None)
    if case.config.trainer.num_threads is not None:
        torch.set_num_threads(case.config.trainer.num_threads)
    device = choose_device(case.config.trainer.device)
    with products_in(case.config.trainer.precision, device):
        serve(_turns(name, case), {"limits": lambda sizes: _limits(case, sizes)})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
