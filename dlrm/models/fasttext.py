"""fastText's classifier: a linear model over the mean of embedded words and n-grams.

Joulin, Grave, Bojanowski and Mikolov 2016, "Bag of Tricks for Efficient Text
Classification".

Shape suffixes: B = batch, N = dense columns, I = N + the widths of all features, T =
outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from dlrm.config.embedding_init import EmbeddingInit
from dlrm.config.model import ModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.embeddings.features import FeatureEmbeddings


@dataclass(kw_only=True, slots=True)
class FasttextConfig(ModelConfig):
    """The width is all there is to choose."""

    embedding_dim: int = 100
    embedding_init: EmbeddingInit = field(default_factory=EmbeddingInit)
    """Uniform in [-1 / embedding_dim, 1 / embedding_dim) where no scale is set."""

    def __post_init__(self) -> None:
        """Fill in the scale.

        Raises:
            ConfigError: A value is out of range.
        """
        ModelConfig.__post_init__(self)
        if self.embedding_init.scale is None:
            self.embedding_init.scale = 1 / self.embedding_dim


@register_model("fasttext", FasttextConfig, multiple_outputs=True)
class Fasttext(nn.Module):
    """Pooled features and dense columns side by side, then one matrix without bias.

    A text pools by ``mean``, which its feature's ``pooling`` says. The matrix starts at
    zero, so that every class starts equally likely.
    """

    def __init__(self, config: FasttextConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.embeddings = FeatureEmbeddings(schema)
        input_dim = sum(self.embeddings.widths) + schema.num_dense
        self.output = nn.Linear(input_dim, schema.num_outputs, bias=False)
        nn.init.zeros_(self.output.weight)
        self.has_dense = schema.num_dense > 0

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, T]."""
        if not self.embeddings.feature_names:
            return self.output(batch.dense)
        x_BI = self.embeddings.concatenated(batch.sparse)
        if self.has_dense:
            x_BI = torch.cat([batch.dense, x_BI], dim=1)
        return self.output(x_BI)
