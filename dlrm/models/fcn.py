"""FCN: linear and exponential cross networks, without an MLP (Li et al. 2024).

"FCN: Fusing Exponential and Linear Cross Network for Click-Through Rate Prediction",
arXiv 2407.13349, section 3.

Shape suffixes: B = batch, F = fields, D = width of a field's vector, H = heads, I =
width of a head's input, F * D / H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.checks import check_rate, require
from dlrm.config.model import ModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.half_cross import HalfCross, SecondHalf
from dlrm.models.branches import Branches
from dlrm.models.inputs import FieldVectors


@dataclass(kw_only=True, slots=True)
class FCNConfig(ModelConfig):
    """Depths of the two cross networks, and how they are trained."""

    linear_layers: int = 3
    """Of the linear cross network (LCN)."""
    exponential_layers: int = 3
    """Of the exponential cross network (ECN)."""
    second_half: SecondHalf = SecondHalf.self_mask
    cross_heads: int = 1
    """Slices of the vectors that are crossed apart, their logits averaged."""
    tri_bce: bool = True
    """Train each cross network's own logit as well, while it lags behind the mean."""
    embedding_dropout: float = 0.0
    """On the pooled vectors."""
    dropout: float = 0.0
    """After each cross layer."""
    batch_norm: bool = False
    """In each cross layer."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        ModelConfig.__post_init__(self)
        for key in ("linear_layers", "exponential_layers", "cross_heads"):
            value = getattr(self, key)
            require(value >= 1, f"model.{key}", ">= 1", value)
        require(
            self.embedding_dim % (2 * self.cross_heads) == 0,
            "model.embedding_dim",
            f"a multiple of {2 * self.cross_heads}, twice model.cross_heads",
            self.embedding_dim,
        )
        check_rate("model.embedding_dropout", self.embedding_dropout)
        check_rate("model.dropout", self.dropout)


@register_model("fcn", FCNConfig)
class FCN(nn.Module):
    """The mean of two cross networks' logits, each network's a mean over heads.

    Every field's vector is cut into heads and each head's slice into halves; a head
    crosses all first halves followed by all second ones, so that each field has a plain
    and a masked part.
    """

    def __init__(self, config: FCNConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.fields = FieldVectors(
            schema,
            embedding_dim=config.embedding_dim,
            dropout=config.embedding_dropout,
        )
        self.num_heads = config.cross_heads
        input_dim = self.fields.num_fields * config.embedding_dim // config.cross_heads
        self.linear = _Branch(
            input_dim, config, exponential=False, num_layers=config.linear_layers
        )
        self.exponential = _Branch(
            input_dim, config, exponential=True, num_layers=config.exponential_layers
        )
        self.branches = Branches() if config.tri_bce else None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        x_BHI = self._heads(self.fields(batch))
        linear_B1, exponential_B1 = self.linear(x_BHI), self.exponential(x_BHI)
        if self.branches is not None:
            self.branches.keep(linear_B1, exponential_B1)
        return (linear_B1 + exponential_B1) / 2

    def _heads(self, x_BFD: torch.Tensor) -> torch.Tensor:
        halves = x_BFD.unflatten(2, (self.num_heads, 2, -1))
        return halves.permute(0, 2, 3, 1, 4).flatten(2)


class _Branch(nn.Module):
    """A cross network and its logit."""

    def __init__(
        self, input_dim: int, config: FCNConfig, *, exponential: bool, num_layers: int
    ) -> None:
        super().__init__()
        self.cross = HalfCross(
            input_dim,
            num_layers=num_layers,
            exponential=exponential,
            second=config.second_half,
            num_heads=config.cross_heads,
            batch_norm=config.batch_norm,
            dropout=config.dropout,
        )
        self.logit = nn.Linear(input_dim, 1)
        nn.init.xavier_normal_(self.logit.weight)
        nn.init.zeros_(self.logit.bias)

    def forward(self, x_BHI: torch.Tensor) -> torch.Tensor:
        logits_B1: torch.Tensor = self.logit(self.cross(x_BHI)).mean(dim=1)
        return logits_B1
