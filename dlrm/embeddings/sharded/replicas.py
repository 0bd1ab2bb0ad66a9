"""Data-parallel tables: a replica a process, each making the same updates.

Every process looks up its own examples. In backward the processes' ids and gradients
are gathered, and every replica is trained on the union batch in the same order: what
counts uses, limits norms or steps all rows then sees what one process would see.

Shape suffixes: N = ids, G = bags, D = width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from dlrm.distributed.gathering import gather_ragged, gather_sizes
from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.flat_bags import FlatBags
from dlrm.embeddings.row_collection import LocalEmbeddingCollection
from dlrm.embeddings.torch_bags import TorchBags


class UnionBatch:
    """Turns a process's bags and their gradients into those of all processes."""

    def __init__(self, group: dist.ProcessGroup, generator: torch.Generator) -> None:
        """Gather over ``group``; seed ``generator`` alike on all of it at each step."""
        self._group, self._generator = group, generator

    def __call__(
        self, bags: FlatBags, per_bag: torch.Tensor
    ) -> tuple[FlatBags, torch.Tensor]:
        """Return the union's bags and gradients, process by process."""
        group, (num_bags, dim) = self._group, per_bag.shape
        # Stochastic rounding draws alike everywhere: as the first process would.
        seed = int(torch.randint(2**62, ()))
        sizes = gather_sizes([bags.ids.numel(), num_bags, seed], group)
        self._generator.manual_seed(sizes[0][2])
        lengths = bags.offsets.diff()
        whole = torch.cat([bags.ids, lengths.to(bags.ids.dtype)])
        whole_parts = gather_ragged(whole, [n + g for n, g, _ in sizes], group)
        real = per_bag.flatten()
        weighted = bags.weights is not None
        if bags.weights is not None:
            real = torch.cat([bags.weights.detach().to(real.dtype), real])
        real_lengths = [n * weighted + g * dim for n, g, _ in sizes]
        real_parts = gather_ragged(real, real_lengths, group)
        num_ids = [n for n, _, _ in sizes]
        return (
            _union_bags(whole_parts, real_parts if weighted else None, num_ids),
            torch.cat(
                [
                    part[n * weighted :].view(-1, dim)
                    for part, n in zip(real_parts, num_ids, strict=True)
                ]
            ),
        )


class ReplicatedBags(nn.Module):
    """A data-parallel ``EmbeddingBagCollection`` that trains itself."""

    def __init__(
        self, tables: LocalEmbeddingBagCollection, group: dist.ProcessGroup
    ) -> None:
        """Replicate ``tables``, whose kernels are all torch's."""
        super().__init__()
        self.tables, self._world_size = tables, group.size()
        _replicate(tables.kernels, group)

    def forward(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """Return each feature's pooled vectors of this process's examples.

        Raises:
            DataError: An id is out of its table's range.
        """
        vectors = self.tables(_with_whole_gradients(features, self._world_size))
        return KeyedTensor(
            keys=vectors.keys(),
            length_per_key=vectors.length_per_key(),
            values=scale_gradient(vectors.values(), 1.0 / self._world_size),
        )


class ReplicatedSequences(nn.Module):
    """A data-parallel ``EmbeddingCollection`` that trains itself."""

    def __init__(
        self, tables: LocalEmbeddingCollection, group: dist.ProcessGroup
    ) -> None:
        """Replicate ``tables``, whose kernels are all torch's."""
        super().__init__()
        self.tables, self._world_size = tables, group.size()
        _replicate(tables.kernels, group)

    def forward(self, features: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
        """Return each feature's vectors, one an id of this process's examples.

        Raises:
            DataError: An id is out of its table's range.
        """
        return {
            name: JaggedTensor(
                values=scale_gradient(vectors.values(), 1.0 / self._world_size),
                lengths=vectors.lengths(),
                weights=vectors.weights_or_none(),
            )
            for name, vectors in self.tables(features).items()
        }


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(values: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``values``, whose gradient will be ``factor`` times what comes back."""
    scaled: torch.Tensor = _ScaleGradient.apply(values, factor)  # type: ignore[no-untyped-call]
    return scaled


def _replicate(kernels: list[Any], group: dist.ProcessGroup) -> None:
    for bags in kernels:
        assert isinstance(bags, TorchBags)
        generator = torch.Generator(device=bags.weight(0).device)
        bags.generator = generator
        bags.exchange = UnionBatch(group, generator)


def _with_whole_gradients(
    features: KeyedJaggedTensor, world_size: int
) -> KeyedJaggedTensor:
    """Undo, for the ids' weights, the mean over processes that tables train with."""
    weights = features.weights_or_none()
    if weights is None or not weights.requires_grad:
        return features
    return KeyedJaggedTensor(
        keys=features.keys(),
        values=features.values(),
        weights=scale_gradient(weights, float(world_size)),
        lengths=features.lengths(),
        offsets=features.offsets(),
        stride=features.stride(),
    )


def _union_bags(
    whole_parts: list[torch.Tensor],
    real_parts: list[torch.Tensor] | None,
    num_ids: list[int],
) -> FlatBags:
    ids = torch.cat([p[:n] for p, n in zip(whole_parts, num_ids, strict=True)])
    lengths = torch.cat([p[n:] for p, n in zip(whole_parts, num_ids, strict=True)])
    weights = None
    if real_parts is not None:
        weights = torch.cat([p[:n] for p, n in zip(real_parts, num_ids, strict=True)])
    bag_of_id = None
    if ids.numel() != lengths.numel() or bool((lengths != 1).any()):
        bag_of_id = torch.arange(lengths.numel(), device=ids.device).repeat_interleave(
            lengths, output_size=ids.numel()
        )
    return FlatBags(
        ids=ids,
        offsets=F.pad(lengths.cumsum(0), (1, 0)).to(ids.dtype),
        weights=weights,
        bag_of_id=bag_of_id,
    )
