"""DCN V2: cross networks over all inputs, beside or before an MLP (Wang et al. 2021).

"DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems", sections 3 and 4.

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
from dlrm.layers.cross import CrossKind, build_cross
from dlrm.layers.deep_cross import DeepCross, Structure
from dlrm.models.inputs import FlatInput


@dataclass(kw_only=True, slots=True)
class DCNv2Config(DeepModelConfig):
    """The kind and depth of the cross network, and its place beside the MLP."""

    structure: Structure = Structure.stacked
    cross: CrossKind = CrossKind.full_rank
    cross_layers: int = 3
    cross_rank: int = 64
    """Of ``low_rank``, and of each expert of ``mixture``."""
    cross_experts: int = 4
    """Of ``mixture``."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        for key in ("cross_layers", "cross_rank", "cross_experts"):
            value = getattr(self, key)
            require(value >= 1, f"model.{key}", ">= 1", value)


@register_model("dcnv2", DCNv2Config)
class DCNv2(nn.Module):
    """A cross network and an MLP over dense columns and embeddings of any widths."""

    def __init__(self, config: DCNv2Config, schema: FeatureSchema) -> None:
        super().__init__()
        self.inputs = FlatInput(schema, dropout=config.embedding_dropout)
        cross = build_cross(
            config.cross,
            self.inputs.output_dim,
            num_layers=config.cross_layers,
            rank=config.cross_rank,
            num_experts=config.cross_experts,
        )
        self.head = DeepCross(
            cross,
            self.inputs.output_dim,
            structure=config.structure,
            widths=config.top_mlp,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        logits_B1: torch.Tensor = self.head(self.inputs(batch))
        return logits_B1
