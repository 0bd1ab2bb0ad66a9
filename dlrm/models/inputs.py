"""The ways into a model that several models share: from a batch to tensors.

Shape suffixes: B = batch, N = dense columns, F = fields, D = width of a field's vector,
I = width of all of a row's inputs side by side.
"""

from __future__ import annotations

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.layers.projections import Projections


class FieldVectors(nn.Module):
    """One vector a field, all of one width: dense columns first, then sparse features.

    Dense column j with value x_j is x_j v_j under a learned v_j, as factorization
    machines take numbers (Rendle 2010, section III). A table of another width than
    ``embedding_dim`` is projected to it. Dropout falls on the sparse features' vectors.
    """

    def __init__(
        self, schema: FeatureSchema, *, embedding_dim: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embeddings = FeatureEmbeddings(schema)
        self.projections = Projections(self.embeddings.widths, target_dim=embedding_dim)
        self.equal_widths = set(self.embeddings.widths) <= {embedding_dim}
        self.dropout = nn.Dropout(dropout)
        self.dense_vectors: nn.Parameter | None = None
        if schema.num_dense:
            self.dense_vectors = nn.Parameter(
                0.1 * torch.randn(schema.num_dense, embedding_dim)
            )
        self.num_fields = schema.num_dense + len(schema.sparse)
        self.embedding_dim = embedding_dim

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the vectors, [B, F, D]."""
        parts = []
        if self.dense_vectors is not None:
            parts.append(batch.dense[:, :, None] * self.dense_vectors)
        if self.embeddings.feature_names:
            parts.append(self._sparse_vectors(batch))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _sparse_vectors(self, batch: Batch) -> torch.Tensor:
        if self.equal_widths:
            joined = self.embeddings.concatenated(batch.sparse)
        else:
            vectors = self.projections(self.embeddings(batch.sparse))
            joined = torch.cat(vectors, dim=1)
        return self.dropout(joined).unflatten(1, (-1, self.embedding_dim))


class FlatInput(nn.Module):
    """Dense columns, then every feature's embedding at its own width, side by side.

    Dropout falls on the embeddings.
    """

    def __init__(self, schema: FeatureSchema, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.embeddings = FeatureEmbeddings(schema)
        self.dropout = nn.Dropout(dropout)
        self.num_dense = schema.num_dense
        self.output_dim = schema.num_dense + sum(self.embeddings.widths)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the row's inputs, [B, I]."""
        if not self.embeddings.feature_names:
            return batch.dense
        joined = self.dropout(self.embeddings.concatenated(batch.sparse))
        return torch.cat([batch.dense, joined], dim=1) if self.num_dense else joined


class LinearTerms(nn.Module):
    """The first-order part: a bias, a weight a dense column, a weight a sparse id.

    The sparse weights stand in tables of width 1 beside the model's own ones; a bag's
    weights are pooled as its feature says, poolings that are not linear by mean.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.embeddings = FeatureEmbeddings(
            schema.derived("linear", embedding_dim=1), batch_groups=schema.groups
        )
        self.dense_weights: nn.Parameter | None = None
        if schema.num_dense:
            self.dense_weights = nn.Parameter(torch.zeros(schema.num_dense, 1))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the terms, [B, 1]."""
        terms: torch.Tensor = self.bias
        if self.dense_weights is not None:
            terms = terms + batch.dense @ self.dense_weights
        if self.embeddings.feature_names:
            weights = self.embeddings.concatenated(batch.sparse)
            terms = terms + weights.sum(dim=1, keepdim=True)
        return terms


def check_num_fields(schema: FeatureSchema, *, model: str) -> None:
    """Refuse a schema without two fields to pair, which ``model`` is about.

    Raises:
        ConfigError: There are fewer than 2 fields.
    """
    num_fields = schema.num_dense + len(schema.sparse)
    if num_fields < 2:
        raise ConfigError(
            f"model={model} pairs fields and needs at least 2 (one a sparse feature, "
            f"one a dense column), but the data has {num_fields}. Add a feature to "
            f"data.sparse_features or set model=dnn."
        )
