"""Memory of this machine that is free for this process, its container's limit kept."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def free_memory() -> int:
    """Return the bytes that this process may still take before the kernel kills it."""
    free = int(psutil.virtual_memory().available)
    return min([free, *_left_in_cgroups(CGROUPS, _OWN_CGROUP)])


def _left_in_cgroups(root: Path, own: Path) -> list[int]:
    """Return what is left below each limit that this process's groups have."""
    found = []
    for folder in _folders(root, own):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            top, used = _number(folder / limit), _number(folder / usage)
            if top is not None and used is not None:
                # The kernel drops the page cache before it kills.
                found.append(max(top - used + _cached(folder), 0))
    return found


def _folders(root: Path, own: Path) -> list[Path]:
    """Return this process's group and those above it, in either version's layout."""
    found = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        place = top / path.lstrip("/")
        # Inside a container the path is the host's, and the group is the root here.
        found += [p for p in (place, *place.parents) if p.is_relative_to(top)]
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no limit.
        return None


def _cached(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    stat = dict(line.split(" ", 1) for line in lines)
    return int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
