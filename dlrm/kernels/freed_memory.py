"""Keep memory that a step frees for the next one.

A step's activations and gradients are matrices of several megabytes. glibc maps each
such block anew from the kernel and hands it back when it is freed, so that every step
pays a page fault for every 4 KiB that it writes: a fifth of a small model's step, and
more in a virtual machine. With the two limits below it keeps what was freed and gives
it out again. The process holds on to the most it ever needed, which is what the machine
must have free in any case.
"""

from __future__ import annotations

import ctypes
import functools
import sys

_LARGEST_KEPT = 32 << 20
"""Bytes: the most that glibc takes. Larger blocks, as tables, stay mapped alone."""
_NEVER_TRIM = 2**31 - 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks; return whether it does.

    Other allocators and other systems are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))
