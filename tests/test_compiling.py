"""A compiled model learns what the model itself does, and refuses what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dlrm import compiling
from dlrm.compiling import compiled
from dlrm.config.errors import ConfigError
from dlrm.config.trainer import TrainerConfig
from dlrm.distributed.job import ALONE
from tests.test_averaging import all_weights
from tests.test_trainer import start

CPU = torch.device("cpu")


def test_several_processes_are_refused():
    context = replace(ALONE.context, world_size=4)
    job = replace(ALONE, context=context, group=object())
    with pytest.raises(ConfigError, match=r"is for one process, .* but there are 4"):
        compiled(nn.Linear(1, 1), CPU, job)


def test_a_compiler_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="needs the C.. compiler no-such-compiler"):
        compiled(nn.Linear(1, 1), CPU, ALONE)


def test_graphs_without_a_gpu_are_refused():
    with pytest.raises(ConfigError, match=r"cuda_graphs=true needs a GPU, but .* cpu"):
        compiled(nn.Linear(1, 1), CPU, ALONE, cuda_graphs=True)
    with pytest.raises(ConfigError, match="must be false without trainer.compile"):
        TrainerConfig(cuda_graphs=True)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_a_gpu_gets_graphs_where_they_are_asked_for(
    cuda_graphs: bool, monkeypatch: pytest.MonkeyPatch
):
    modes: list[str | None] = []
    steps: list[int] = []

    def record(network: nn.Module, mode: str | None = None) -> nn.Module:
        modes.append(mode)
        return network

    monkeypatch.setattr(compiling, "_has_compiler", lambda device: True)
    monkeypatch.setattr(torch, "compile", record)
    monkeypatch.setattr(
        torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(1)
    )
    network, gpu = nn.Linear(2, 1), torch.device("cuda")
    found = compiled(network, gpu, ALONE, cuda_graphs=cuda_graphs)
    x = torch.randn(3, 2)
    assert torch.equal(found(x), network(x))
    assert modes == ["reduce-overhead" if cuda_graphs else None]
    assert len(steps) == int(cuda_graphs)


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(tmp_path: Path, prepared: Path):
    found = []
    for name, compile_ in (("plain", "false"), ("compiled", "true")):
        settings = (f"run_name={name}", f"trainer.compile={compile_}")
        _, trainer, _ = start(tmp_path, prepared, *settings)
        trainer.fit()
        found.append(all_weights(trainer.learner.model))
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-4, atol=1e-6)
