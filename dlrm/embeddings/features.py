"""The sparse half of every model: bags of ids in, one vector a feature out.

Shape suffixes: B = batch, N = ids of a feature, D = the widths of all features
together, W = the width of one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.embeddings.compression import IdRows, combine_rows, expand_ids
from dlrm.embeddings.group_plan import GroupPlan
from dlrm.embeddings.names import module_name
from dlrm.embeddings.padding import remove_padding
from dlrm.embeddings.pooling import pool_rows, scale_sums
from dlrm.embeddings.tables import build_collections, is_sequence

# What reads a batch's values is one node to torch.fx, as it cannot be traced through.
torch.fx.wrap("remove_padding")
torch.fx.wrap("expand_ids")


class FeatureEmbeddings(nn.Module):
    """One embedding collection a group of the schema, read in the schema's order.

    The collections may be torchrec's own, local or sharded ones. Where a lookup pools
    as the feature wants, bags go in and vectors come out untouched: a pipeline sees
    that a collection's input is a plain attribute of the batch.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        batch_groups: dict[str, tuple[FittedSparse, ...]] | None = None,
    ) -> None:
        """Build the collections on the meta device; ``to_local`` gives them values.

        Args:
            schema: The features.
            batch_groups: The groups that batches come in, where they are those of
                another schema of the same features: for ``FeatureSchema.derived``.

        Raises:
            ConfigError: Features that share a table do not fit each other.
        """
        super().__init__()
        self.collections = nn.ModuleDict(build_collections(schema))
        self.feature_names = tuple(feature.name for feature in schema.sparse)
        self.widths = tuple(f.feature.embedding_dim or 0 for f in schema.sparse)
        """Width of each feature's vector, in schema order."""
        self.queries = nn.ModuleDict(
            {
                module_name(feature.name): AttentionQuery(width)
                for feature, width in zip(schema.sparse, self.widths, strict=True)
                if feature.pooling is Pooling.attention
            }
        )
        self._plans = {
            group: GroupPlan.of(schema, group, batch_groups or schema.groups)
            for group in schema.groups
        }

    def forward(self, sparse: dict[str, KeyedJaggedTensor]) -> list[torch.Tensor]:
        """Return each feature's pooled vectors [B, W], in schema order."""
        bags: dict[str, KeyedJaggedTensor] = {}
        found: dict[str, Any] = {}
        for group, collection in self.collections.items():
            bags[group] = self._bags(sparse, group)
            found[group] = collection(self._rows(bags[group], group))
        # Sharded collections send while others are asked: none is waited for above.
        vectors: dict[str, torch.Tensor] = {}
        for group, output in found.items():
            pool = self._pool_rows if is_sequence(group) else self._pool_sums
            vectors.update(pool(output, bags[group], group))
        return [vectors[name] for name in self.feature_names]

    def concatenated(self, sparse: dict[str, KeyedJaggedTensor]) -> torch.Tensor:
        """Return all features' vectors side by side, [B, D], in schema order.

        One collection whose output lies in schema order is returned as it stands,
        without a copy.
        """
        plans = list(self._plans.values())
        if len(plans) != 1 or not plans[0].pools_in_kernel:
            return torch.cat(self(sparse), dim=1)
        ((group, collection),) = self.collections.items()
        pooled = collection(self._rows(self._bags(sparse, group), group))
        return side_by_side(pooled, self.feature_names)

    def _bags(
        self, sparse: dict[str, KeyedJaggedTensor], group: str
    ) -> KeyedJaggedTensor:
        """Return the group's bags without padding ids."""
        plan = self._plans[group]
        parts = [sparse[source] for source in plan.sources]
        bags = parts[0] if len(parts) == 1 else join_bags(parts)
        return remove_padding(bags, plan.padding) if plan.padding else bags

    def _rows(self, bags: KeyedJaggedTensor, group: str) -> KeyedJaggedTensor:
        """Return the bags of rows that stand for the bags of ids."""
        compressed = self._plans[group].compressed
        return expand_ids(bags, compressed) if compressed else bags

    def _pool_sums(
        self, output: Any, bags: KeyedJaggedTensor, group: str
    ) -> dict[str, torch.Tensor]:
        # Picked by name one by one, which torch.fx can trace, unlike a loop over the
        # keys: the pipeline of sharded modules traces the model.
        sums, plan = output.to_dict(), self._plans[group]
        return {
            name: scaled_sums(sums[name], bags, name, pooling)
            if name in plan.scaled
            else sums[name]
            for name, pooling in plan.poolings.items()
        }

    def _pool_rows(
        self, output: Any, bags: KeyedJaggedTensor, group: str
    ) -> dict[str, torch.Tensor]:
        plan, vectors = self._plans[group], {}
        for name, pooling in plan.poolings.items():
            query = None
            if pooling is Pooling.attention:
                query = self.queries[module_name(name)]()
            table = plan.compressed.get(name)
            rows = output[name].values()
            vectors[name] = pooled_rows(rows, bags, name, pooling, table, query)
        return vectors


class AttentionQuery(nn.Module):
    """The learned vector that a feature's rows are compared with; zeros weigh alike."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))

    def forward(self) -> torch.Tensor:
        """Return the query, [W]."""
        return self.query


# What torch.fx cannot see through, as it traces a model for its pipeline, is one node.
@torch.fx.wrap
def side_by_side(pooled: KeyedTensor, names: tuple[str, ...]) -> torch.Tensor:
    """Return the features' vectors in the order of ``names``, [B, D]."""
    if tuple(pooled.keys()) == names:
        values: torch.Tensor = pooled.values()
        return values
    vectors = pooled.to_dict()
    return torch.cat([vectors[name] for name in names], dim=1)


@torch.fx.wrap
def join_bags(parts: list[KeyedJaggedTensor]) -> KeyedJaggedTensor:
    """Return the features of several groups as one."""
    return KeyedJaggedTensor.concat(parts)


@torch.fx.wrap
def scaled_sums(
    sums_BW: torch.Tensor, bags: KeyedJaggedTensor, name: str, pooling: Pooling
) -> torch.Tensor:
    """Return feature ``name``'s vectors [B, W] from the weighted sums of its rows."""
    bag = bags[name]
    return scale_sums(
        sums_BW,
        offsets=bag.offsets(),
        weights_N=bag.weights_or_none(),
        pooling=pooling,
    )


@torch.fx.wrap
def pooled_rows(
    rows: torch.Tensor,
    bags: KeyedJaggedTensor,
    name: str,
    pooling: Pooling,
    table: IdRows | None,
    query_W: torch.Tensor | None,
) -> torch.Tensor:
    """Return feature ``name``'s vectors [B, W] from the rows of its ids, one by one.

    ``rows`` is [N, W], or [N * K, W] where ``table`` makes an id of K rows.
    """
    # Lengths and weights are the input's: a sharded lookup gives no weights back.
    bag = bags[name]
    return pool_rows(
        rows if table is None else combine_rows(rows, table),
        offsets=bag.offsets(),
        weights_N=bag.weights_or_none(),
        pooling=pooling,
        query_D=query_W,
    )
