"""Looking at an installation from outside: each package in a process of its own."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass

TIMEOUT_SECONDS = 120
"""For one import; torchrec takes 3 s on an idle machine and far more on a cold disk."""

# A table with one bag: forward, and a fused SGD step, through fbgemm's kernels.
SMOKE_RUN = """
import torch, fbgemm_gpu
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
    EmbeddingLocation, PoolingMode)
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice, OptimType, SplitTableBatchedEmbeddingBagsCodegen)
tables = SplitTableBatchedEmbeddingBagsCodegen(
    [(10, 4, EmbeddingLocation.HOST, ComputeDevice.CPU)],
    optimizer=OptimType.EXACT_SGD, learning_rate=0.5, pooling_mode=PoolingMode.SUM)
out = tables(torch.tensor([1, 1, 2]), torch.tensor([0, 2, 3]))
out.sum().backward()
rows = tables.split_embedding_weights()[0]
assert rows[1].tolist() == [-1.0] * 4 and rows[2].tolist() == [-0.5] * 4, rows
print("ok")
"""

NATIVE_KERNELS = """
from dlrm.kernels.library import instruction_set, why_absent
from dlrm.kernels.text_library import reads_text
found = why_absent() or f"built for this torch, running on {instruction_set()}"
print(found if reads_text() or why_absent() else f"{found}, but none to read text")
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a piece of Python ended in a process of its own."""

    ok: bool
    output: str
    """What it printed, or why it failed: the last line of its traceback."""


def run_python(code: str, *, timeout: float = TIMEOUT_SECONDS) -> Probe:
    """Run code in a fresh interpreter, where a crash or a hang harms nobody."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(False, f"no answer within {timeout:g} s")
    if done.returncode == 0:
        return Probe(True, done.stdout.strip())
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1].strip() if lines else "no message"
    if done.returncode < 0:
        reason = f"killed by signal {-done.returncode}; {reason}"
    return Probe(False, reason)


def try_import(module: str) -> Probe:
    """Import a module in a process of its own."""
    return run_python(f"import {module}")


def installed_version(distribution: str) -> str | None:
    """Return a distribution's version without its local part; None where absent."""
    try:
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def local_version(distribution: str) -> str:
    """Return the local part of a version: ``cpu`` of ``2.13.0+cpu``."""
    try:
        return importlib.metadata.version(distribution).partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return ""
