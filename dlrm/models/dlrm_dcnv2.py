"""DLRM-DCNv2, MLPerf's recommendation model.

DLRM with the low-rank cross of DCN V2 (Wang et al. 2021) in place of the dot
interaction.

Shape suffixes: B = batch, I = input width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from dlrm.config.checks import check_widths, require
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.layers.low_rank_cross import LowRankCross
from dlrm.layers.mlp import MLP


@dataclass(kw_only=True, slots=True)
class DLRMDCNv2Config(DeepModelConfig):
    """Widths of the MLPs, depth and rank of the cross network."""

    bottom_mlp: list[int] = field(default_factory=lambda: [64])
    """Hidden widths; a last layer of ``embedding_dim`` with ReLU follows."""
    cross_layers: int = 3
    cross_rank: int = 64

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        check_widths("model.bottom_mlp", self.bottom_mlp)
        require(self.cross_layers >= 1, "model.cross_layers", ">= 1", self.cross_layers)
        require(self.cross_rank >= 1, "model.cross_rank", ">= 1", self.cross_rank)


@register_model("dlrm_dcnv2", DLRMDCNv2Config)
class DLRMDCNv2(nn.Module):
    """Bottom MLP and embedding bags, concatenated, crossed, and the top MLP.

    Tables may have any widths: the cross takes their concatenation.
    """

    def __init__(self, config: DLRMDCNv2Config, schema: FeatureSchema) -> None:
        super().__init__()
        self.embeddings = FeatureEmbeddings(schema)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        input_dim = sum(self.embeddings.widths)
        self.bottom_mlp: MLP | None = None
        if schema.num_dense:
            widths = [*config.bottom_mlp, config.embedding_dim]
            self.bottom_mlp = MLP(schema.num_dense, widths)
            input_dim += config.embedding_dim
        self.cross = LowRankCross(
            input_dim, num_layers=config.cross_layers, rank=config.cross_rank
        )
        self.top_mlp = MLP(
            input_dim,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        parts = []
        if self.bottom_mlp is not None:
            parts.append(self.bottom_mlp(batch.dense))
        if self.embeddings.feature_names:
            pooled = self.embeddings.concatenated(batch.sparse)
            parts.append(self.embedding_dropout(pooled))
        return self.top_mlp(self.cross(torch.cat(parts, dim=1)))
