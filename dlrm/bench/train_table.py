"""The figures of ``dlrm bench train`` as lines on a terminal."""

from __future__ import annotations

from typing import Any

from dlrm.bench.machine import machine_lines
from dlrm.bench.pairs import Ratio
from dlrm.bench.peers import YARDSTICKS


def format_training(figures: dict[str, Any]) -> str:
    """Return speeds, ratios, a step's parts and limits, a table each."""
    parts = [
        [*machine_lines(figures["machine"]), *_what(figures)],
        _speeds(figures),
        _ratios(figures),
        _split(figures),
        _limits(figures),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _what(figures: dict[str, Any]) -> list[str]:
    facts = figures["facts"]
    dense = figures["dense_optimizer"]
    place = facts["gpu"] or f"{facts['threads']} threads"
    return [
        f"measured {figures['case']}, model {figures['model']}, tables "
        f"{figures['optimizer']}, dense {dense}, batch {facts['batch']:,}, "
        f"{facts['precision']}, {place}",
        f"on       order: {facts['shuffle']}; log every {facts['log_every']} steps, "
        f"TensorBoard {'on' if facts['tensorboard'] else 'off'}; checkpoint every "
        f"{facts['checkpoint_every']} steps, {facts['steps_taken']} steps taken",
    ]


def _speeds(figures: dict[str, Any]) -> list[str]:
    lines = [f"{'':<22}{'examples/s, median':>20}  95 % interval      with pauses"]
    for name, found in figures["contestants"].items():
        speed = found["examples_per_second"]
        interval = f"[{speed['low']:,.0f}, {speed['high']:,.0f}]"
        overall = found["overall_examples_per_second"]
        lines.append(
            f"{name:<22}{speed['median']:>20,.0f}  {interval:<18} {overall:>11,.0f}"
        )
    return lines


def _ratios(figures: dict[str, Any]) -> list[str]:
    lines = []
    for name, found in figures["ratios"].items():
        lines.append(f"dlrm / {name:<15} {Ratio(**found)}  {YARDSTICKS.get(name, '')}")
        noise = Ratio(**figures["noise"][name])
        lines.append(f"{name} to itself".ljust(22) + f" {noise}")
    for name, reason in figures["absent"].items():
        lines.append(f"without {name}: {reason}")
    if figures["void"]:
        lines.append(
            "VOID: identical code lies more than 3 % from itself. Something else is "
            "running, or the turns are too short: measure again, with more steps."
        )
    share = 100 * figures["idle_share"]
    lines.append(f"those not in turn used {share:.1f} % of a core")
    return lines


def _split(figures: dict[str, Any]) -> list[str]:
    split = figures["split"]
    whole = split["whole"]
    lines = [f"{'a step':<22}{'ms':>9}{'share':>8}"]
    for name, seconds in split.items():
        if not name.startswith("whole"):
            share = 100 * seconds / whole
            lines.append(f"{name:<22}{1e3 * seconds:>9.2f}{share:>7.1f}%")
    plain = 1e3 * split["whole_without_timers"]
    lines.append(f"{'sum, with timers':<22}{1e3 * whole:>9.2f}")
    lines.append(f"{'without timers':<22}{plain:>9.2f}")
    return lines


def _limits(figures: dict[str, Any]) -> list[str]:
    limits, floor, facts = figures["limits"], figures["floor"], figures["facts"]
    rows = (
        ("products, GFLOP/s", floor["flops_per_second"],
         floor["gemm_limit_flops_per_second"]),
        ("lookup, GB/s", floor["lookup_bytes_per_second"],
         limits["gather_bytes_per_second"]),
        ("update, GB/s", floor["update_bytes_per_second"],
         limits["update_bytes_per_second"]),
    )  # fmt: skip
    lines = [f"{'':<22}{'in the step':>12}{'alone':>10}"]
    for name, found, limit in rows:
        lines.append(f"{name:<22}{_billions(found):>12}{_billions(limit):>10}")
    copy = _billions(limits["copy_bytes_per_second"])
    lines.append(f"{'copy, GB/s':<22}{'':>12}{copy:>10}")
    lines.append(
        f"floor                 {floor['examples_per_second']:>12,.0f} examples/s "
        f"(products {1e3 * floor['gemm_seconds']:.2f} ms, rows "
        f"{1e3 * floor['row_seconds']:.2f} ms); reached "
        f"{100 * floor['share_reached']:.0f} %"
    )
    memory = f"peak memory           {facts['peak_rss_bytes'] / 1e9:.2f} GB"
    if facts["peak_cuda_bytes"] is not None:
        memory += f", on the GPU {facts['peak_cuda_bytes'] / 1e9:.2f} GB"
    lines.append(f"{memory}; the tables' rows are {facts['table_bytes'] / 1e9:.2f} GB")
    return lines


def _billions(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:.1f}"
