"""GDCN: gated cross networks beside or before an MLP (Wang et al. 2023).

"Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction", section
3: GDCN-S is ``stacked``, GDCN-P is ``parallel``.

Shape suffixes: B = batch, I = input width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.checks import require
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.deep_cross import DeepCross, Structure
from dlrm.layers.gated_cross import GatedCross
from dlrm.models.inputs import FlatInput


@dataclass(kw_only=True, slots=True)
class GDCNConfig(DeepModelConfig):
    """Depth of the gated cross network and its place beside the MLP."""

    structure: Structure = Structure.stacked
    cross_layers: int = 3

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        require(self.cross_layers >= 1, "model.cross_layers", ">= 1", self.cross_layers)


@register_model("gdcn", GDCNConfig)
class GDCN(nn.Module):
    """A gated cross network and an MLP over dense columns and embeddings."""

    def __init__(self, config: GDCNConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.inputs = FlatInput(schema, dropout=config.embedding_dropout)
        input_dim = self.inputs.output_dim
        self.head = DeepCross(
            GatedCross(input_dim, num_layers=config.cross_layers),
            input_dim,
            structure=config.structure,
            widths=config.top_mlp,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        logits_B1: torch.Tensor = self.head(self.inputs(batch))
        return logits_B1
