"""What the tests of native kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dlrm.kernels.library import instruction_set, native

SETS = ("avx512", "avx2", "baseline")


@pytest.fixture(params=SETS)
def each_instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test once an instruction set that this machine has."""
    if not native():
        pytest.skip("nothing was compiled")
    best = instruction_set()
    if not torch.ops.dlrm.use_instruction_set(request.param):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    torch.ops.dlrm.use_instruction_set(best)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Leave torch's number of threads as it was."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
