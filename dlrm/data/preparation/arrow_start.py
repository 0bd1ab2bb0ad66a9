"""What Arrow does once in a process, at a time of our choosing."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import numpy as np
import pyarrow as pa

_looked_in_vain = False


def go_without_pandas() -> None:
    """Let Arrow look for pandas in vain, unless it is imported already.

    Arrow imports it to see whether an array is one of its, which costs as much as all
    other imports together. Afterwards Arrow makes no DataFrames in this process: it
    must be one of our own, whose work needs none.
    """
    global _looked_in_vain
    if _looked_in_vain or "pandas" in sys.modules:
        return
    _looked_in_vain = True
    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    # It looks once for each way to make an array.
    for values in (np.zeros(1), [0.0]):
        pa.array(values)
    sys.meta_path.remove(hidden)


def settle_pandas() -> None:
    """Import pandas now, where Arrow would in the midst of its work.

    It would keep a Ctrl-C to itself there.
    """
    if not _looked_in_vain:
        import pandas  # noqa: F401


class _Hidden(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("this process needs no pandas", name=fullname)
