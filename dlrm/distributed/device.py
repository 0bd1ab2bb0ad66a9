"""The device that one process computes on."""

from __future__ import annotations

import torch

from dlrm.config.errors import InstallationError
from dlrm.config.trainer import Device


def choose_device(device: Device) -> torch.device:
    """Return the device of this process.

    Raises:
        InstallationError: ``cuda`` was asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if device is Device.cuda and not cuda:
        raise InstallationError(
            "trainer.device=cuda needs a CUDA build of torch and a GPU, but torch sees "
            "none. Run dlrm doctor, or set trainer.device=cpu."
        )
    return torch.device("cpu" if device is Device.cpu or not cuda else "cuda")
