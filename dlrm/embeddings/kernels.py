"""Which tables of a collection go together, and who looks them up and updates them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import Enum

import torch
from torchrec.modules.embedding_configs import PoolingType

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Storage
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.fbgemm_bags import FbgemmBags, fbgemm_refusal
from dlrm.embeddings.kernel_options import KernelOptions, TableConfig, kernel_options
from dlrm.embeddings.names import table_name
from dlrm.embeddings.native_bags import NativeBags, native_refusal
from dlrm.embeddings.storage import storage_refusal
from dlrm.embeddings.torch_bags import TorchBags


class Kernel(Enum):
    """Who looks up and updates a table."""

    native = "native"
    fbgemm = "fbgemm"
    torch = "torch"


def choose_kernel(options: KernelOptions, device: torch.device) -> Kernel:
    """Return the fastest whose numbers are right: native, fbgemm, else torch."""
    if options.storage is Storage.dense:
        return Kernel.torch
    if native_refusal(options, device) is None:
        return Kernel.native
    return Kernel.torch if fbgemm_refusal(options, device) else Kernel.fbgemm


def build_kernels(
    tables: Sequence[TableConfig],
    *,
    is_weighted: bool,
    optimizer: SparseOptimizer,
    device: torch.device,
    kernel: Kernel | None = None,
    trainable: bool = True,
    storage: Storage | None = None,
) -> list[Bags]:
    """Return as few kernels as serve all ``tables``, each table in one of them.

    Args:
        tables: Of one collection.
        is_weighted: Whether ids come with weights.
        optimizer: Of tables without their own.
        device: Of tables and input.
        kernel: Overrules ``choose_kernel``.
        trainable: Whether to keep optimizer state; the kernels and so the vectors are
            the same without.
        storage: Of tables without their own; ``fused`` where None.

    Raises:
        ConfigError: A weighted table is pooled by something else than sum, a table is
            of a type that cannot be trained, ``kernel`` cannot serve a table, or it
            cannot lie where it asks to.
    """
    groups: list[tuple[Kernel, KernelOptions, list[TableConfig]]] = []
    for table in tables:
        _check_pooling(table, is_weighted)
        options = kernel_options(table, optimizer, storage)
        if not trainable and device.type != "cuda":
            # What a GPU trains, a CPU may look up: it has one memory alone.
            options = dataclasses.replace(
                options, storage=Storage.fused, cache_load_factor=None
            )
        _check_storage(table, options, device, kernel)
        chosen = kernel or choose_kernel(options, device)
        _check_kernel(table, options, device, chosen)
        if chosen is not Kernel.torch and options.pooling is not PoolingType.NONE:
            # These pool tables of any widths in one go.
            options = dataclasses.replace(options, embedding_dim=0)
        members = next((m for k, o, m in groups if (k, o) == (chosen, options)), None)
        if members is None:
            groups.append((chosen, options, [table]))
        else:
            members.append(table)
    return [
        _build(
            chosen,
            members,
            options if trainable else _stateless(chosen, options),
            device,
        )
        for chosen, options, members in groups
    ]


def _build(
    kernel: Kernel,
    tables: list[TableConfig],
    options: KernelOptions,
    device: torch.device,
) -> Bags:
    match kernel:
        case Kernel.native:
            return NativeBags(tables, options)
        case Kernel.fbgemm:
            return FbgemmBags(tables, options, device=device)
        case Kernel.torch:
            return TorchBags(tables, options, device=device)


def _stateless(kernel: Kernel, options: KernelOptions) -> KernelOptions:
    """Return options of tables that are looked up alone: no optimizer state."""
    # fbgemm has no tables without optimizer; plain SGD keeps no state.
    sgd = SparseOptimizer(name=SparseOptimizerName.sgd)
    optimizer = sgd if kernel is Kernel.fbgemm else None
    return dataclasses.replace(options, optimizer=optimizer)


def _check_pooling(table: TableConfig, is_weighted: bool) -> None:
    pooling = getattr(table, "pooling", None)
    if is_weighted and pooling is PoolingType.MEAN:
        raise ConfigError(
            f"Table '{table_name(table.name)}' of a weighted collection must be pooled "
            f"by sum, but it is pooled by mean. For a weighted mean, divide the sum "
            f"by the bag's total weight, as FeatureEmbeddings does."
        )
    if pooling is PoolingType.NONE:
        raise ConfigError(
            f"Table '{table_name(table.name)}' must be pooled by sum or mean, but its "
            f"pooling is none. For rows one by one, use an EmbeddingCollection."
        )


def _check_storage(
    table: TableConfig,
    options: KernelOptions,
    device: torch.device,
    kernel: Kernel | None,
) -> None:
    reason = fbgemm_refusal(options, device)
    if kernel is Kernel.torch and reason is None:
        reason = "a replica on every process (data_parallel)"
    refused = storage_refusal(options, device, fbgemm_refusal=reason)
    if refused is not None:
        raise ConfigError(
            f"Table '{table_name(table.name)}' cannot have "
            f"storage={options.storage.value}: {refused}."
        )


def _check_kernel(
    table: TableConfig, options: KernelOptions, device: torch.device, kernel: Kernel
) -> None:
    if kernel is Kernel.torch:
        return
    refusal = native_refusal if kernel is Kernel.native else fbgemm_refusal
    reason = refusal(options, device)
    if reason is not None:
        raise ConfigError(
            f"kernel={kernel.value} must be left to tables whose options it computes "
            f"right, but table '{table_name(table.name)}' has {reason}. Leave the "
            f"kernel to choose_kernel, or take kernel=torch."
        )
