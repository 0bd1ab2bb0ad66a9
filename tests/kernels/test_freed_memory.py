from __future__ import annotations

import subprocess
import sys

import pytest

from dlrm.kernels.freed_memory import keep_freed_memory

FAULTS = """
import resource, torch
from dlrm.kernels.freed_memory import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
def step():
    return (torch.empty(1 << 20).fill_(1.0) * 2).sum()
for _ in range(3):
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

    # Two blocks of 4 MiB a step are 2,048 pages of 4 KiB; huge pages are fewer.
    assert faults(kept=True) < 100
    assert faults(kept=False) >= faults(kept=True)


def test_asking_twice_says_the_same():
    assert keep_freed_memory() == keep_freed_memory()
