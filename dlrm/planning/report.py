"""A plan as plain data, and as a table for a terminal of 100 columns."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dlrm.config.terminal_text import plain
from dlrm.planning.advice import explain_shortfalls, shortfalls
from dlrm.planning.machine import GIB
from dlrm.planning.memory import RankMemory, part_memory, plan_memory
from dlrm.planning.plan import Planned
from dlrm.planning.step_time import StepTime, plan_times

WIDTH = 100
MIB = 2**20
KINDS = {
    "weights": ("weights",),
    "optimizer": ("optimizer",),
    "cache": ("cache",),
    "exchange": ("communication",),
    "activations": ("activations",),
    "dense": ("dense_parameters", "dense_gradients", "dense_optimizer"),
}
"""Columns of the table, and the kinds of bytes that each sums up."""
_HEADS = {"optimizer": "state", "activations": "activ."}
TERMS = {
    "lookup": "looking rows up",
    "update": "training rows",
    "exchange_ids": "sending ids",
    "exchange_vectors": "sending vectors",
    "exchange_gradients": "sending gradients",
    "dense": "the dense part",
    "all_reduce": "adding up dense gradients",
}


def describe_plan(planned: Planned, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plan and all that is known of it, in bytes and milliseconds."""
    plan, shape = planned.plan, planned.shape
    memory = plan_memory(plan, planned.loads, planned.dense, shape)
    times = plan_times(plan, planned.loads, planned.dense, shape, planned.hardware)
    slowest = max(range(plan.world_size), key=lambda rank: times[rank].total)
    short = shortfalls(memory, planned.capacity)
    advice = ""
    if short:
        advice = explain_shortfalls(
            short, plan, planned.loads, planned.dense, shape, planned.capacity
        )
    if planned.dense.note:
        notes = [*notes, f"Activations are left out: {planned.dense.note}."]
    step_ms = times[slowest].total
    return {
        "fits": not short,
        "world_size": plan.world_size,
        "ranks_per_node": plan.ranks_per_node,
        "local_batch_size": shape.local_batch_size,
        "hardware": dataclasses.asdict(planned.hardware),
        "available_bytes": dataclasses.asdict(planned.capacity),
        "step": {
            "ms": step_ms,
            "rank": slowest,
            "largest_term": times[slowest].largest,
            "examples_per_second": plan.world_size
            * shape.local_batch_size
            / step_ms
            * 1e3
            if step_ms
            else None,
        },
        "ranks": [
            _rank_entry(rank, *pair)
            for rank, pair in enumerate(zip(memory, times, strict=True))
        ],
        "tables": [_table_entry(name, planned) for name in plan.tables],
        "notes": list(notes),
        "advice": advice,
    }


def format_plan(described: Mapping[str, Any], title: str) -> str:
    """Return the plan as text of at most ``WIDTH`` columns, no newline at its end."""
    # Brackets in a table's name are no markup.
    console = Console(
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=False,
        color_system=None,
        markup=False,
        emoji=False,
    )
    console.print(title, highlight=False)
    console.print(_rank_table(described))
    console.print(_table_table(described))
    for line in _closing(described):
        console.print(line, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [plain(line.rstrip()) for line in text.splitlines()]
    return "\n".join(
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if before or line
    )


def rank_ranges(ranks: Sequence[int]) -> str:
    """Return numbers as text, neighbours joined: ``0-7, 9``."""
    parts = []
    ordered = sorted(set(ranks))
    for _, run in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        one = len(numbers) == 1
        parts.append(str(numbers[0]) if one else f"{numbers[0]}-{numbers[-1]}")
    return ", ".join(parts)


def kinds_of(entry: Mapping[str, int]) -> dict[str, int]:
    """Return a process's bytes by the columns of the table."""
    return {kind: sum(entry[part] for part in parts) for kind, parts in KINDS.items()}


def format_bytes(size: float) -> str:
    """Return bytes in GiB or, where they are few, in MiB."""
    return f"{size / GIB:,.2f} GiB" if size >= GIB else f"{size / MIB:,.2f} MiB"


def headline(described: Mapping[str, Any]) -> str:
    """Say how long a step takes and what takes longest."""
    step = described["step"]
    rate = step["examples_per_second"]
    speed = "" if rate is None else f", {rate:,.0f} examples/s"
    return (
        f"Estimated step: {step['ms']:,.2f} ms{speed}; largest term on rank "
        f"{step['rank']}: {TERMS[step['largest_term']]}."
    )


def _rank_entry(rank: int, memory: RankMemory, time: StepTime) -> dict[str, Any]:
    return {
        "rank": rank,
        "device_bytes": {**memory.device.by_kind(), "total": memory.device.total},
        "host_bytes": {**memory.host.by_kind(), "total": memory.host.total},
        "step_ms": {**time.by_term(), "total": time.total},
        "largest_term": time.largest,
    }


def _table_entry(name: str, planned: Planned) -> dict[str, Any]:
    load, table = planned.loads[name], planned.plan.tables[name]
    return {
        "name": name,
        "num_rows": load.num_rows,
        "embedding_dim": load.width,
        "bytes": load.total,
        "ids_per_example": load.ids_per_example,
        "strategy": table.strategy.value,
        "storage": table.storage.value,
        "cache_load_factor": table.cache_load_factor,
        "parts": [
            {
                **dataclasses.asdict(part),
                "bytes": (own.device + own.host).total,
            }
            for part in table.parts
            for own in [part_memory(part, table, load, planned.shape)]
        ],
    }


def _rank_table(described: Mapping[str, Any]) -> Table:
    ranks = described["ranks"]
    largest = max(entry["device_bytes"]["total"] for entry in ranks)
    unit, word = (GIB, "GiB") if largest >= GIB else (MIB, "MiB")
    host = any(entry["host_bytes"]["total"] for entry in ranks)
    cached = any(entry["device_bytes"]["cache"] for entry in ranks)
    table = _new_table()
    table.add_column("rank", no_wrap=True)
    shown = [kind for kind in KINDS if kind != "cache" or cached]
    for kind in shown:
        table.add_column(_HEADS.get(kind, kind), justify="right", no_wrap=True)
    table.add_column(f"{word}", justify="right", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True)
    if host:
        table.add_column("host", justify="right", no_wrap=True)
    table.add_column("step ms", justify="right", no_wrap=True)
    rows: dict[tuple[str, ...], list[int]] = {}
    for entry in ranks:
        kinds = kinds_of(entry["device_bytes"])
        cells = [f"{kinds[kind] / unit:,.2f}" for kind in shown]
        cells.append(f"{entry['device_bytes']['total'] / unit:,.2f}")
        cells.append(f"{described['available_bytes']['device'] / unit:,.2f}")
        if host:
            cells.append(f"{entry['host_bytes']['total'] / unit:,.2f}")
        cells.append(f"{entry['step_ms']['total']:,.2f}")
        rows.setdefault(tuple(cells), []).append(entry["rank"])
    for row, members in rows.items():
        table.add_row(rank_ranges(members), *row)
    return table


def _table_table(described: Mapping[str, Any]) -> Table:
    table = _new_table()
    table.add_column("table", overflow="fold", max_width=24)
    for name in ("rows", "width", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("lies", no_wrap=True)
    table.add_column("on ranks", overflow="fold")
    for entry in described["tables"]:
        stored = entry["storage"]
        how = entry["strategy"] + ("" if stored == "fused" else f", {stored}")
        table.add_row(
            entry["name"],
            f"{entry['num_rows']:,}",
            str(entry["embedding_dim"]),
            format_bytes(entry["bytes"]),
            how,
            rank_ranges([p["rank"] for p in entry["parts"] if p["num_rows"]]),
        )
    return table


def _new_table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)


def _closing(described: Mapping[str, Any]) -> list[str]:
    total = sum(entry["bytes"] for entry in described["tables"])
    return [
        f"Tables with their optimizer state: {format_bytes(total)}.",
        headline(described),
        *described["notes"],
    ]
