"""The sparse half of every model: bags of ids in, one vector a feature out.

Shape suffixes: B = batch, D = the widths of all features together.
"""

from __future__ import annotations

import torch
import torch.fx
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema
from dlrm.embeddings.tables import build_collections


class FeatureEmbeddings(nn.Module):
    """One embedding collection a group of the schema, read in the schema's order."""

    def __init__(self, schema: FeatureSchema) -> None:
        """Build the collections on the meta device; ``to_local`` gives them values.

        Raises:
            ConfigError: Features that share a table do not fit each other.
        """
        super().__init__()
        self.collections = nn.ModuleDict(build_collections(schema))
        self.feature_names = tuple(feature.name for feature in schema.sparse)
        self.widths = tuple(f.feature.embedding_dim or 0 for f in schema.sparse)
        """Width of each feature's vector, in schema order."""
        self._names = {
            group: tuple(feature.name for feature in features)
            for group, features in schema.groups.items()
        }
        self._weighted_means = tuple(
            feature.name
            for feature in schema.groups.get("weighted", ())
            if feature.feature.pooling is Pooling.mean
        )

    def forward(self, sparse: dict[str, KeyedJaggedTensor]) -> list[torch.Tensor]:
        """Return each feature's pooled vectors [B, width], in schema order."""
        pooled: dict[str, torch.Tensor] = {}
        for group, collection in self.collections.items():
            # Picked by name one by one, which torch.fx can trace, unlike a loop over
            # the keys: the pipeline of sharded modules traces the model.
            vectors = collection(self._bags(sparse, group)).to_dict()
            pooled.update({name: vectors[name] for name in self._names[group]})
        return [pooled[name] for name in self.feature_names]

    def concatenated(self, sparse: dict[str, KeyedJaggedTensor]) -> torch.Tensor:
        """Return all features' vectors side by side, [B, D], in schema order.

        One collection whose output lies in schema order is returned as it stands,
        without a copy.
        """
        if len(self.collections) != 1:
            return torch.cat(self(sparse), dim=1)
        ((group, collection),) = self.collections.items()
        pooled = collection(self._bags(sparse, group))
        if tuple(pooled.keys()) == self.feature_names:
            values: torch.Tensor = pooled.values()
            return values
        vectors = pooled.to_dict()
        return torch.cat([vectors[name] for name in self.feature_names], dim=1)

    def _bags(
        self, sparse: dict[str, KeyedJaggedTensor], group: str
    ) -> KeyedJaggedTensor:
        # Groups without a weighted mean go straight through: a pipeline can then see
        # that the collection's input is a plain attribute of the batch.
        if group == "weighted" and self._weighted_means:
            return mean_weights(sparse[group], self._weighted_means)
        return sparse[group]


@torch.fx.wrap
def mean_weights(
    bags: KeyedJaggedTensor, features: tuple[str, ...]
) -> KeyedJaggedTensor:
    """Divide the weights of the named features by their bag's total.

    Summing with these weights is the weighted mean, sum(w x) / sum(w). A bag whose
    weights add up to 0 has no mean and pools to zeros.
    """
    weights, lengths = bags.weights(), bags.lengths()
    num_bags = lengths.numel()
    bag_of_id = torch.repeat_interleave(
        torch.arange(num_bags, device=weights.device),
        lengths,
        output_size=weights.numel(),
    )
    totals = weights.new_zeros(num_bags).index_add_(0, bag_of_id, weights)
    factors = torch.where(totals == 0, 0.0, totals.reciprocal())
    names: list[str] = bags.keys()
    marks = torch.tensor([name in features for name in names]).to(weights.device)
    marked = marks.repeat_interleave(bags.stride(), output_size=num_bags)
    factors = torch.where(marked, factors, 1.0)
    return KeyedJaggedTensor(
        keys=bags.keys(),
        values=bags.values(),
        weights=weights * factors.index_select(0, bag_of_id),
        lengths=lengths,
        offsets=bags.offsets(),
        stride=bags.stride(),
    )
