"""Batches from disk as training gets them, beside a DataLoader in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from dlrm.bench.case import BenchCase
from dlrm.bench.contestants import Contestant
from dlrm.bench.machine import machine_lines
from dlrm.bench.measuring import bench_beside
from dlrm.bench.our_loop import OurLoop
from dlrm.bench.pairs import Ratio
from dlrm.bench.protocol import serve
from dlrm.config.root import Config
from dlrm.data.batch import Batch
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.storage.dataset import Dataset

_OUR_FACTOR = 20
"""Batches of ours for one of theirs, so that turns are of a like length."""


def bench_loading(
    config: Config,
    *,
    num_rounds: int,
    num_steps: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure batches alone, then what of a training step is spent waiting for them."""

    def ask(ours: Contestant) -> dict[str, Any]:
        report("The wait in a training step ...")
        split = ours.ask("split")
        return {
            "step_seconds": split["whole"],
            "wait_seconds": split["seconds"]["data"],
            "share_not_hidden": split["seconds"]["data"] / split["whole"],
        }

    return bench_beside(
        config,
        verb="load",
        peer="dataloader",
        has_peer=_is_one_hot,
        ask=ask,
        num_rounds=num_rounds,
        num_steps=num_steps,
        code=code,
        report=report,
    )


def _is_one_hot(case: BenchCase) -> bool:
    return not Dataset.open(case.dataset, verify=False).schema.multi_hot


def serve_loader(case: BenchCase) -> None:
    """Go through epoch after epoch of batches, and take no steps with them."""
    loop = OurLoop(case)
    batches = _endless(loop.trainer.train_rows)
    num_batches = case.num_steps * _OUR_FACTOR

    def turn() -> int:
        return sum(len(next(batches)) for _ in range(num_batches))

    def split(argument: Any) -> dict[str, Any]:
        batches.close()  # type: ignore[attr-defined]
        # Warm, as a loop in the middle of training is.
        loop.turn()
        return loop.split(argument)

    serve(turn, {"facts": loop.facts, "split": split})
    loop.close()


def _endless(rows: BatchLoader) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from rows.batches(epoch)
        epoch += 1


def dataloader_turn(case: BenchCase) -> Callable[[], int]:
    """Return a turn over torch's DataLoader with shuffling, its rows in memory."""
    dataset = Dataset.open(case.dataset, verify=False)
    rows = dataset.split("train")
    order = RowOrder(rows.num_rows, seed=0, shuffle=False)
    size = case.config.trainer.global_batch_size
    whole = BatchLoader(
        rows, dataset.schema, order=order, global_batch_size=65_536, prefetch_batches=0
    )
    parts = [
        (
            batch.dense,
            batch.sparse["pooled"].values().view(-1, len(batch)).t().long(),
            batch.labels,
        )
        for batch in whole.batches(0)
    ]
    columns = [torch.cat(each) for each in zip(*parts, strict=True)]
    loader = DataLoader(TensorDataset(*columns), batch_size=size, shuffle=True)

    def batches() -> Iterator[Any]:
        while True:
            yield from loader

    endless = batches()
    return lambda: sum(len(next(endless)[0]) for _ in range(case.num_steps))


def format_loading(figures: dict[str, Any]) -> str:
    """Return the figures as the lines printed on a terminal."""
    lines = machine_lines(figures["machine"])
    lines.append(f"order    {figures['facts']['shuffle']}")
    for name, found in figures["contestants"].items():
        speed = found["examples_per_second"]
        interval = f"[{speed['low']:,.0f}, {speed['high']:,.0f}]"
        lines.append(f"{name:<18}{speed['median']:>14,.0f} examples/s {interval}")
    for name, ratio in figures["ratios"].items():
        lines.append(f"dlrm / {name}  {Ratio(**ratio)}")
        lines.append(f"{name} to itself  {Ratio(**figures['noise'][name])}")
    share = 100 * figures["share_not_hidden"]
    lines.append(
        f"of a training step {share:.2f} % is spent waiting for its batch "
        f"({1e3 * figures['wait_seconds']:.3f} of "
        f"{1e3 * figures['step_seconds']:.2f} ms)"
    )
    if figures["void"]:
        lines.append("VOID: identical code lies more than 3 % from itself.")
    return "\n".join(lines)
