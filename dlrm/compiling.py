"""A model's forward and backward pass, compiled by torch where a run asks for it."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dlrm.config.environment import read_environment
from dlrm.config.errors import ConfigError
from dlrm.distributed.job import Job


def compiled(
    network: nn.Module, device: torch.device, job: Job, *, cuda_graphs: bool = False
) -> Callable[..., Any]:
    """Return the model as ``torch.compile`` makes it, when it is first called.

    It shares all parameters with ``network``. Lookups stay as they are, what lies
    between them and the logits is fused. With ``cuda_graphs`` torch replays on a GPU
    what it can: parts whose shapes stay, and that change none of their inputs.

    Raises:
        ConfigError: There are several processes, no compiler that torch could use, or
            no GPU for its graphs.
    """
    if job.group is not None:
        raise ConfigError(
            f"trainer.compile=true is for one process, as tables over several are not "
            f"traced, but there are {job.world_size}. Leave trainer.compile out."
        )
    if cuda_graphs and device.type != "cuda":
        raise ConfigError(
            f"trainer.cuda_graphs=true needs a GPU, but the device is {device.type}. "
            f"Leave trainer.cuda_graphs out."
        )
    if not _has_compiler(device):
        cxx = read_environment().cxx
        wanted = "triton" if device.type == "cuda" else f"the C++ compiler {cxx} (CXX)"
        raise ConfigError(
            f"trainer.compile=true needs {wanted}, but it is not here. Install it, or "
            f"leave trainer.compile out."
        )
    # It tells of every call that it leaves to Python, which is no fault.
    warnings.filterwarnings("ignore", module=r"torch\._dynamo")
    if not cuda_graphs:
        return torch.compile(network)
    replayed = torch.compile(network, mode="reduce-overhead")

    def next_step(*batch: Any) -> Any:
        # The memory of the step before may be written over from here on.
        torch.compiler.cudagraph_mark_step_begin()
        return replayed(*batch)

    return next_step


def _has_compiler(device: torch.device) -> bool:
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return shutil.which(read_environment().cxx) is not None
