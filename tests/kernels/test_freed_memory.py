from __future__ import annotations

import subprocess
import sys

import pytest

from dlrm.kernels.freed_memory import keep_freed_memory

FAULTS = """
import ctypes, resource, torch
from dlrm.kernels.freed_memory import keep_freed_memory
# glibc raises its own limit after the first blocks; set, it stays where it begins.
assert ctypes.CDLL(None).mallopt(-3, 128 << 10)
if {kept}:
    assert keep_freed_memory()
def step():
    blocks = [torch.ones(3 << 20) for _ in range(3)]
    return sum(float(block[0]) for block in blocks)
for _ in range(30):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not keep_freed_memory(), reason="glibc alone has the setting")
def test_a_step_faults_no_pages_in_anew():
    def faults(kept: bool) -> int:
        code = FAULTS.format(kept=kept)
        return int(subprocess.check_output([sys.executable, "-c", code], text=True))

    # Three blocks of 12 MiB a step are 9,216 pages of 4 KiB; huge pages are fewer.
    assert faults(kept=True) < 50
    assert faults(kept=False) > 50


def test_asking_twice_says_the_same():
    assert keep_freed_memory() == keep_freed_memory()
