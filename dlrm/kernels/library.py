"""The compiled library: where it lies, whether it may be used, and why not."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from dlrm.config.environment import read_environment

INTERFACE = 4
"""Of the operators; ``csrc/library_ops.cpp`` says which one a library has."""
_BUILD = "build it with: pip install --no-build-isolation --no-deps -e ."


def native() -> bool:
    """Say whether the operators of ``torch.ops.dlrm`` may be called."""
    return why_absent() is None


@functools.cache
def why_absent() -> str | None:
    """Load the library once; return why there is none, or None where it is loaded."""
    if not read_environment().native:
        return "DLRM_NATIVE=0 turns it off"
    files = library_files()
    if not files:
        return f"it was not built with this package; {_BUILD}"
    try:
        torch.ops.load_library(str(files[0]))
    except OSError as error:
        return f"{files[0]} cannot be loaded ({error}); {_BUILD}"
    return _mismatch()


def instruction_set() -> str:
    """Return what the library runs on here: avx512, avx2 or baseline."""
    name: str = torch.ops.dlrm.instruction_set()
    return name


def library_files() -> list[Path]:
    """Return the built libraries beside this file, the newest first."""
    found = Path(__file__).parent.glob("_native.*so")
    return sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)


def _mismatch() -> str | None:
    """Return why the loaded library does not fit this code or this torch."""
    interface = torch.ops.dlrm.interface()
    built_with, here = torch.ops.dlrm.torch_version(), torch.__version__.split("+")[0]
    if interface != INTERFACE:
        return f"it was built from other sources of dlrm; {_BUILD}"
    if built_with != here:
        return f"it was built for torch {built_with}, but this is {here}; {_BUILD}"
    return None
