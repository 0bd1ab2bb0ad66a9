"""The ``hardware`` section: the machines that a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.checks import require


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """GPUs, their memory and what joins them. Sizes are GiB, rates 10^9 bytes/s."""

    num_gpus: int = 1
    """All processes of the job: one a GPU."""
    gpus_per_node: int = 8
    hbm_gib: float = 80.0
    """Memory of one GPU."""
    ddr_gib: float = 512.0
    """Memory of one node."""
    hbm_gbps: float = 2000.0
    """Reading from the GPU's memory."""
    ddr_gbps: float = 50.0
    """Reading the node's memory from one of its GPUs."""
    intra_node_gbps: float = 450.0
    """Between two GPUs of a node."""
    inter_node_gbps: float = 25.0
    """Between GPUs of two nodes, for each GPU."""
    tflops: float = 60.0
    """Matrix products of float32 values, 10^12 operations/s."""
    reserved: float = 0.15
    """Share of the memory that plans leave free."""
    on_cpu: bool = False
    """Processes compute on CPUs, ``gpus_per_node`` of them a node: ``hbm_gib`` and
    ``hbm_gbps`` are not read, and the node's memory is shared by them."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        for name in ("num_gpus", "gpus_per_node"):
            value = getattr(self, name)
            require(value >= 1, f"hardware.{name}", ">= 1", value)
        for name in (
            "hbm_gib", "ddr_gib", "hbm_gbps", "ddr_gbps", "intra_node_gbps",
            "inter_node_gbps", "tflops",
        ):  # fmt: skip
            size = getattr(self, name)
            require(size > 0, f"hardware.{name}", "above 0", size)
        share = self.reserved
        require(0 <= share < 1, "hardware.reserved", "in [0, 1)", share)
