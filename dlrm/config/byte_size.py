"""Numbers of bytes as a person reads them."""

from __future__ import annotations

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def shown_bytes(size: float) -> str:
    """Return a size in the decimal unit that leaves one to three digits before the dot.

    Disks and files are counted in powers of 1,000.
    """
    power = 0
    while size >= 999.5 and power < len(_UNITS) - 1:
        size /= 1000
        power += 1
    digits = 0 if power == 0 or size >= 99.95 else 1
    return f"{size:.{digits}f} {_UNITS[power]}"
