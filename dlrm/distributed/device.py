"""The device that one process computes on."""

from __future__ import annotations

import torch

from dlrm.config.errors import ConfigError, InstallationError
from dlrm.config.trainer import Device
from dlrm.distributed.context import ProcessContext


def choose_device(device: Device) -> torch.device:
    """Return the device of this process: a GPU of its own where there are GPUs.

    Raises:
        InstallationError: ``cuda`` was asked for and there is none.
        ConfigError: More processes of this machine than it has GPUs.
    """
    cuda = torch.cuda.is_available()
    if device is Device.cuda and not cuda:
        raise InstallationError(
            "trainer.device=cuda needs a CUDA build of torch and a GPU, but torch sees "
            "none. Run dlrm doctor, or set trainer.device=cpu."
        )
    if device is Device.cpu or not cuda:
        return torch.device("cpu")
    context = ProcessContext.from_environment()
    if context.world_size == 1:
        return torch.device("cuda")
    own = torch.device("cuda", _own_gpu(context, torch.cuda.device_count()))
    torch.cuda.set_device(own)
    return own


def _own_gpu(context: ProcessContext, num_gpus: int) -> int:
    if context.local_rank < num_gpus:
        return context.local_rank
    # Slurm's --gpus-per-task shows each process its own GPU alone, as number 0.
    if num_gpus == 1 and context.by_slurm:
        return 0
    raise ConfigError(
        f"Each process must have a GPU of its own, but this machine has {num_gpus}, "
        f"and this is its process number {context.local_rank + 1}. Start fewer, or set "
        f"trainer.device=cpu."
    )
