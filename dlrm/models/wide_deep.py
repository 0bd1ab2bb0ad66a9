"""Wide & Deep.

Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems", section 3: the sum of
a linear model and a deep network, trained jointly. The wide part here is linear in the
features as they come; a crossed feature (section 3.1) is a sparse feature of the data,
one column made of two.

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
from dlrm.models.inputs import FlatInput, LinearTerms


@dataclass(kw_only=True, slots=True)
class WideDeepConfig(DeepModelConfig):
    """What every model with an MLP has."""


@register_model("wide_deep", WideDeepConfig)
class WideDeep(nn.Module):
    """Linear terms plus an MLP over everything. Tables may have any widths."""

    def __init__(self, config: WideDeepConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.wide = LinearTerms(schema)
        self.deep = FlatInput(schema, dropout=config.embedding_dropout)
        self.top_mlp = MLP(
            self.deep.output_dim,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        return self.wide(batch) + self.top_mlp(self.deep(batch))
