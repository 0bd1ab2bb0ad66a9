"""The tables of one collection in the memory of this process, behind their kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Storage
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.id_check import find_bad_id
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.kernels import Kernel, build_kernels


class TableRows(nn.Module):
    """A live view of one table, under the name that a plain collection gives it."""

    weight: torch.Tensor

    def __init__(self, bags: Bags, index: int) -> None:
        """Hold the weight as a buffer: no optimizer of dense parameters may see it.

        Args:
            bags: The table's kernel.
            index: Of the table among the kernel's.
        """
        super().__init__()
        self._bags = bags
        self.register_buffer("weight", bags.weight(index))

    def __getattr__(self, name: str) -> Any:
        """Return the buffer as training has left it."""
        if name == "weight":
            self._bags.settle()
        return super().__getattr__(name)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._bags.settle()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._bags.settle()
        super()._load_from_state_dict(*args, **kwargs)


class LocalTables:
    """Looks up the features of a batch, each in the kernel of its table.

    Not a module: the kernels' storage must stay out of ``parameters()``.
    """

    def __init__(
        self,
        tables: Sequence[TableConfig],
        *,
        is_weighted: bool,
        optimizer: SparseOptimizer,
        device: torch.device,
        kernel: Kernel | None,
        trainable: bool,
        storage: Storage | None = None,
    ) -> None:
        """Allocate tables of zeros; arguments and errors are ``build_kernels``'s."""
        _check_features(tables)
        self._tables, self._is_weighted, self._device = tables, is_weighted, device
        self._trainable = trainable
        self.kernels = build_kernels(
            tables,
            is_weighted=is_weighted,
            optimizer=optimizer,
            device=device,
            kernel=kernel,
            trainable=trainable,
            storage=storage,
        )
        self.features = [
            [name for table in bags.tables for name in table.feature_names]
            for bags in self.kernels
        ]
        """Of each kernel, in its order."""
        self._permutes: dict[tuple[str, ...], list[list[int] | None]] = {}

    def rows(self) -> nn.ModuleDict:
        """Return live views of all tables by name, in the collection's order."""
        views = {
            table.name: TableRows(bags, i)
            for bags in self.kernels
            for i, table in enumerate(bags.tables)
        }
        return nn.ModuleDict({table.name: views[table.name] for table in self._tables})

    def look_up(
        self, features: KeyedJaggedTensor, *, training: bool
    ) -> list[tuple[KeyedJaggedTensor, torch.Tensor]]:
        """Return each kernel's features, in its order, and their vectors.

        Raises:
            DataError: An id is out of its table's range.
        """
        grad = training and self._trainable and torch.is_grad_enabled()
        try:
            with torch.set_grad_enabled(grad):
                return self._parts(features)
        except (IndexError, RuntimeError) as error:
            bad_id = find_bad_id(features, self._tables)
            raise (bad_id or error) from error

    def refuse_move(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Refuse a function of ``nn.Module._apply`` that moves or casts tensors.

        A moved or cast buffer would no longer be the memory that the kernel trains.
        """
        probe = torch.empty(0, device=self._device)
        moved = fn(probe)
        if (moved.device, moved.dtype) != (probe.device, probe.dtype):
            raise RuntimeError(
                f"Tables must stay on {probe.device} as {probe.dtype}, but were to "
                f"become {moved.device} {moved.dtype}. Use to_plain first, or give "
                f"to_local the device."
            )

    def _parts(
        self, features: KeyedJaggedTensor
    ) -> list[tuple[KeyedJaggedTensor, torch.Tensor]]:
        parts = []
        permutes = self._permutes_for(tuple(features.keys()))
        for bags, permute in zip(self.kernels, permutes, strict=True):
            mine = features if permute is None else _select(features, permute)
            weights = mine.weights() if self._is_weighted else None
            parts.append((mine, bags.pooled(mine.values(), mine.offsets(), weights)))
        return parts

    def _permutes_for(self, keys: tuple[str, ...]) -> list[list[int] | None]:
        """Return how each kernel picks its features; None where it takes all as is."""
        if keys not in self._permutes:
            self._permutes[keys] = [
                None if list(keys) == names else [keys.index(name) for name in names]
                for names in self.features
            ]
        return self._permutes[keys]


def _select(features: KeyedJaggedTensor, places: list[int]) -> KeyedJaggedTensor:
    """Return the features at ``places``, in that order."""
    weights = features.weights_or_none()
    if weights is None or not weights.requires_grad:
        return features.permute(places)
    # permute has no gradient for weights unless it keeps all features.
    single = features.split([1] * len(features.keys()))
    return KeyedJaggedTensor.concat([single[place] for place in places])


def _check_features(tables: Sequence[TableConfig]) -> None:
    owners: dict[str, str] = {}
    for table in tables:
        for name in table.feature_names:
            if name in owners:
                raise ConfigError(
                    f"Feature '{name}' must read one table of a collection, but both "
                    f"'{owners[name]}' and '{table.name}' list it. Give the second a "
                    f"feature, or a collection, of its own."
                )
            owners[name] = table.name
