"""An embedding collection of one process, updated inside its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.id_check import find_bad_id
from dlrm.embeddings.kernels import Kernel, build_kernels


class TableRows(nn.Module):
    """A live view of one table, under the name that a plain collection gives it."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        """Hold ``weight`` as a buffer: no optimizer of dense parameters may see it."""
        super().__init__()
        self.register_buffer("weight", weight)


class LocalEmbeddingBagCollection(nn.Module):
    """A drop-in for torchrec's ``EmbeddingBagCollection`` that trains itself.

    In training mode, backward updates the rows in use at once; no gradient remains.
    In evaluation mode, or without gradients, nothing changes. Input, output keys and
    state-dict names are those of the collection it stands for. ``load_state_dict``
    writes into the tables.
    """

    def __init__(
        self,
        tables: list[EmbeddingBagConfig],
        *,
        is_weighted: bool,
        options: SparseOptimizer,
        device: torch.device,
        kernel: Kernel | None = None,
    ) -> None:
        """Allocate tables of zeros; ``kernel`` overrules ``choose_kernel``.

        Raises:
            ConfigError: A weighted table is pooled by something else than sum.
        """
        super().__init__()
        self._tables, self._is_weighted, self._device = tables, is_weighted, device
        self.kernels = build_kernels(
            tables,
            is_weighted=is_weighted,
            options=options,
            device=device,
            kernel=kernel,
        )
        """Not modules: their storage must stay out of ``parameters()``."""
        rows = {
            table.name: TableRows(bags.weight(i))
            for bags in self.kernels
            for i, table in enumerate(bags.tables)
        }
        self.embedding_bags = nn.ModuleDict({t.name: rows[t.name] for t in tables})
        self._keys = [name for table in tables for name in table.feature_names]
        self._widths = [t.embedding_dim for t in tables for _ in t.feature_names]
        self._features = [
            [name for table in bags.tables for name in table.feature_names]
            for bags in self.kernels
        ]
        self._permutes: dict[tuple[str, ...], list[list[int] | None]] = {}

    def forward(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """Return each feature's pooled vectors, keyed by feature.

        Raises:
            DataError: An id is out of its table's range.
        """
        grad = self.training and torch.is_grad_enabled()
        try:
            with torch.set_grad_enabled(grad):
                values = self._pooled(features)
        except (IndexError, RuntimeError) as error:
            bad_id = find_bad_id(features, self._tables)
            raise (bad_id or error) from error
        return KeyedTensor(keys=self._keys, length_per_key=self._widths, values=values)

    def embedding_bag_configs(self) -> list[EmbeddingBagConfig]:
        """Return the tables' configs, as torchrec's collection does."""
        return self._tables

    def is_weighted(self) -> bool:
        """Say whether ids come with weights, as torchrec's collection does."""
        return self._is_weighted

    def _pooled(self, features: KeyedJaggedTensor) -> torch.Tensor:
        parts = []
        permutes = self._permutes_for(tuple(features.keys()))
        for bags, permute in zip(self.kernels, permutes, strict=True):
            mine = features if permute is None else features.permute(permute)
            weights = mine.weights() if self._is_weighted else None
            parts.append(bags.pooled(mine.values(), mine.offsets(), weights))
        if len(parts) == 1 and self._features[0] == self._keys:
            return parts[0]
        vectors: dict[str, torch.Tensor] = {}
        for bags, names, part in zip(self.kernels, self._features, parts, strict=True):
            widths = [t.embedding_dim for t in bags.tables for _ in t.feature_names]
            vectors.update(zip(names, torch.split(part, widths, dim=1), strict=True))
        return torch.cat([vectors[key] for key in self._keys], dim=1)

    def _permutes_for(self, keys: tuple[str, ...]) -> list[list[int] | None]:
        """Return how each kernel picks its features; None where it takes all as is."""
        if keys not in self._permutes:
            self._permutes[keys] = [
                None if list(keys) == names else [keys.index(name) for name in names]
                for names in self._features
            ]
        return self._permutes[keys]

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> LocalEmbeddingBagCollection:
        # A moved or cast buffer would no longer be the memory that the kernel trains.
        probe = torch.empty(0, device=self._device)
        moved = fn(probe)
        if (moved.device, moved.dtype) != (probe.device, probe.dtype):
            raise RuntimeError(
                f"Tables must stay on {probe.device} as {probe.dtype}, but were to "
                f"become {moved.device} {moved.dtype}. Use to_plain first, or give "
                f"to_local the device."
            )
        return self
