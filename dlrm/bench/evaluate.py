"""A pass over a split as evaluation makes it, metrics apart from the forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.bench.case import BenchCase
from dlrm.bench.contestants import Contestant
from dlrm.bench.machine import machine_lines
from dlrm.bench.measuring import bench_beside
from dlrm.bench.our_loop import OurLoop
from dlrm.bench.pairs import Ratio, median_of
from dlrm.bench.protocol import serve
from dlrm.bench.train import choose_yardsticks
from dlrm.config.root import Config
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder


def bench_evaluation(
    config: Config,
    *,
    num_rounds: int,
    num_steps: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure evaluation beside a bare forward pass, which computes no metrics."""

    def ask(ours: Contestant) -> dict[str, Any]:
        # Those of the last rounds: the first turns were warm-up.
        parts = np.array(ours.ask("parts")[-num_rounds:])
        return {
            "forward_seconds": _figure(parts[:, 0]),
            "metrics_seconds": _figure(parts[:, 1]),
            "share_of_metrics": float(np.median(parts[:, 1] / parts.sum(axis=1))),
        }

    return bench_beside(
        config,
        verb="evaluate",
        peer="bare_forward",
        has_peer=lambda case: "bare" in choose_yardsticks(case, None)[0],
        ask=ask,
        num_rounds=num_rounds,
        num_steps=num_steps,
        code=code,
        report=report,
    )


def _figure(values: np.ndarray) -> dict[str, float]:
    found = median_of(values)
    return {"median": found.median, "low": found.low, "high": found.high}


def serve_evaluation(case: BenchCase) -> None:
    """Judge the same first batches of a split in every turn."""
    loop = OurLoop(case)
    trainer = loop.trainer
    splits = trainer.dataset.schema.splits
    split = "valid" if splits["valid"].num_rows else "train"
    rows = trainer.dataset.split(split)
    loader = BatchLoader(
        rows,
        trainer.run.schema,
        order=RowOrder(rows.num_rows, seed=0, shuffle=False),
        global_batch_size=trainer.config.global_batch_size,
        prefetch_batches=trainer.config.prefetch_batches,
    )
    parts: list[tuple[float, float]] = []

    def turn() -> int:
        started_at = time.perf_counter()
        batches = loader.batches(0)
        some = islice(batches, case.num_steps)
        with trainer.learner.predicting():
            found = trainer.judge.collect(trainer.learner.model, some, trainer.device)
        close = getattr(batches, "close", None)
        if close is not None:
            close()
        collected = time.perf_counter()
        trainer.judge.metrics(found)
        parts.append((collected - started_at, time.perf_counter() - collected))
        return len(found)

    serve(turn, {"facts": loop.facts, "parts": lambda _: parts})
    loop.close()


def format_evaluation(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    lines = machine_lines(figures["machine"])
    for name, found in figures["contestants"].items():
        speed = found["examples_per_second"]
        interval = f"[{speed['low']:,.0f}, {speed['high']:,.0f}]"
        lines.append(f"{name:<20}{speed['median']:>14,.0f} rows/s {interval}")
    for name, ratio in figures["ratios"].items():
        lines.append(f"dlrm / {name}  {Ratio(**ratio)}  (which has no metrics)")
        lines.append(f"{name} to itself  {Ratio(**figures['noise'][name])}")
    lines.append(
        f"forward {figures['forward_seconds']['median']:.3f} s, metrics "
        f"{figures['metrics_seconds']['median']:.3f} s a turn: metrics are "
        f"{100 * figures['share_of_metrics']:.1f} %"
    )
    if figures["void"]:
        lines.append("VOID: identical code lies more than 3 % from itself.")
    return "\n".join(lines)
