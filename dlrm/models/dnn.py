"""A plain deep network: embeddings and dense columns side by side into an MLP.

The ranking network of Covington et al. 2016, "Deep Neural Networks for YouTube
Recommendations", section 4 and figure 7, and the deep part of Cheng et al. 2016.

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
from dlrm.models.inputs import FlatInput


@dataclass(kw_only=True, slots=True)
class DNNConfig(DeepModelConfig):
    """What every model with an MLP has."""


@register_model("dnn", DNNConfig)
class DNN(nn.Module):
    """One MLP over everything. Tables may have any widths."""

    def __init__(self, config: DNNConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.inputs = FlatInput(schema, dropout=config.embedding_dropout)
        self.top_mlp = MLP(
            self.inputs.output_dim,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        return self.top_mlp(self.inputs(batch))
