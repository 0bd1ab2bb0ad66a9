"""DeepFM.

Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR
Prediction", section 2: a factorization machine plus a deep network over the same
vectors.

Shape suffix: B = batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.mlp import MLP
from dlrm.layers.pair_sum import pair_sum
from dlrm.models.inputs import FieldVectors, LinearTerms, check_num_fields


@dataclass(kw_only=True, slots=True)
class DeepFMConfig(DeepModelConfig):
    """What every model with an MLP has."""


@register_model("deepfm", DeepFMConfig)
class DeepFM(nn.Module):
    """Linear terms, pair products of the fields, and an MLP over the fields.

    Tables of other widths than ``embedding_dim`` are projected to it.
    """

    def __init__(self, config: DeepFMConfig, schema: FeatureSchema) -> None:
        super().__init__()
        check_num_fields(schema, model="deepfm")
        self.linear = LinearTerms(schema)
        self.fields = FieldVectors(
            schema,
            embedding_dim=config.embedding_dim,
            dropout=config.embedding_dropout,
        )
        self.top_mlp = MLP(
            self.fields.num_fields * config.embedding_dim,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        fields = self.fields(batch)
        deep = self.top_mlp(fields.flatten(1))
        return self.linear(batch) + pair_sum(fields) + deep
