"""A compiled model learns what the model itself does, and refuses what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.compiling import compiled
from dlrm.config.errors import ConfigError
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
