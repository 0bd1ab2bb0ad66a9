"""How much memory a process has: of machines as described, or of this one."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from dlrm.config.hardware import HardwareConfig

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """Bytes that one process may fill."""

    device: int
    """Of its GPU, or of its share of the node where it computes on the CPU."""
    host: int
    """Of its share of the node's memory, beside a GPU."""


def capacity(hardware: HardwareConfig, ranks_per_node: int) -> Capacity:
    """Return what ``hardware`` leaves a process, ``reserved`` taken off."""
    share = hardware.ddr_gib / ranks_per_node
    device = share if hardware.on_cpu else hardware.hbm_gib
    return Capacity(
        device=int((1 - hardware.reserved) * device * GIB),
        host=0 if hardware.on_cpu else int((1 - hardware.reserved) * share * GIB),
    )


def this_machine(device_type: str) -> HardwareConfig:
    """Describe this machine: its memory as found, its rates as the defaults."""
    ddr = psutil.virtual_memory().total / GIB
    if device_type != "cuda":
        return HardwareConfig(on_cpu=True, ddr_gib=ddr)
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return HardwareConfig(hbm_gib=gpu.total_memory / GIB, ddr_gib=ddr)
