"""Which memory a kernel's tables lie in, and where that memory cannot be had."""

from __future__ import annotations

import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation

from dlrm.config.sharding import Storage
from dlrm.embeddings.kernel_options import KernelOptions

DEFAULT_CACHE_LOAD_FACTOR = 0.2
"""Share of a cached table's rows that the GPU holds, where nothing else is said."""

_READ_BY_GPU = {
    Storage.fused: EmbeddingLocation.DEVICE,
    Storage.fused_uvm: EmbeddingLocation.MANAGED,
    Storage.fused_uvm_caching: EmbeddingLocation.MANAGED_CACHING,
}
IN_HOST_MEMORY = frozenset({Storage.fused_uvm, Storage.fused_uvm_caching})
"""Tables that a GPU trains while the host holds them."""


def fbgemm_location(storage: Storage, device: torch.device) -> EmbeddingLocation:
    """Return fbgemm's word for the memory of tables that it keeps for ``device``."""
    if device.type != "cuda":
        return EmbeddingLocation.HOST
    return _READ_BY_GPU[storage]


def storage_refusal(
    options: KernelOptions, device: torch.device, *, fbgemm_refusal: str | None
) -> str | None:
    """Return why tables of these options cannot lie where they ask to; None if so.

    Args:
        options: Of the tables.
        device: Of the process that trains them.
        fbgemm_refusal: Which option keeps fbgemm from training them, if any: host
            memory that a GPU reads is fbgemm's alone.
    """
    storage = options.storage
    if storage is Storage.key_value:
        return (
            "fbgemm's tables on disk need its RocksDB wrapper, which no published "
            "build of fbgemm-gpu holds. Use storage=fused_uvm_caching on a GPU, "
            "storage=fused on a CPU, or more processes"
        )
    if storage not in IN_HOST_MEMORY:
        return None
    if device.type != "cuda":
        return (
            "it needs a GPU to read the host's memory; on a CPU all tables lie there. "
            "Use storage=fused"
        )
    if fbgemm_refusal is not None:
        return (
            f"fbgemm alone keeps tables so, and it does not train a table with "
            f"{fbgemm_refusal} right. Use storage=fused, or leave out the option"
        )
    return None
