"""Our own contestants by name, as ``dlrm bench serve NAME FOLDER`` starts them."""

from __future__ import annotations

from collections.abc import Callable

from dlrm.bench.case import BenchCase


def _train(case: BenchCase) -> None:
    from dlrm.bench.our_loop import serve_our_loop

    serve_our_loop(case)


def _load(case: BenchCase) -> None:
    from dlrm.bench.load import serve_loader

    serve_loader(case)


def _evaluate(case: BenchCase) -> None:
    from dlrm.bench.evaluate import serve_evaluation

    serve_evaluation(case)


def _checkpoint(case: BenchCase) -> None:
    from dlrm.bench.checkpoint import serve_checkpoints

    serve_checkpoints(case)


LOOPS: dict[str, Callable[[BenchCase], None]] = {
    "train": _train,
    "load": _load,
    "evaluate": _evaluate,
    "checkpoint": _checkpoint,
}
