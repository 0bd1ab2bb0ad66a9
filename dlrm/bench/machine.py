"""The machine that figures are of, so that they can be read later."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("dlrm", "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "sve", "asimd")
"""Instruction sets that matter to matrix products."""


def describe_machine() -> dict[str, Any]:
    """Return cores, instruction sets, memory, load and versions; imports no torch."""
    info = _cpu_info()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "platform": platform.platform(),
        "cpu": info.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "memory_bytes": psutil.virtual_memory().total,
        # Above 1 before anything has started, others are at work: read no figure.
        "load_average": psutil.getloadavg()[0],
        "python": platform.python_version(),
        "packages": _versions(),
    }


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """Return the machine as the lines printed above every table."""
    flags = ", ".join(machine["cpu_flags"]) or "no vector flags known"
    gigabytes = machine["memory_bytes"] / 1e9
    versions = ", ".join(f"{n} {v}" for n, v in machine["packages"].items())
    return [
        f"machine  {machine['cpu']}, {machine['cores']} cores ({flags}), "
        f"{gigabytes:.0f} GB, load {machine['load_average']:.1f}",
        f"         {versions}",
    ]


def _cpu_info() -> dict[str, str]:
    """Return the first core's entries; none where the system does not list them."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
