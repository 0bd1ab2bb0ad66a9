"""AutoInt.

Song et al. 2019, "AutoInt: Automatic Feature Interaction Learning via Self-Attentive
Neural Networks", section 4; with a deep network beside it, AutoInt+ of section 5.5.

Shape suffix: B = batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.checks import require
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.field_attention import FieldAttention
from dlrm.layers.mlp import MLP
from dlrm.models.inputs import FieldVectors


@dataclass(kw_only=True, slots=True)
class AutoIntConfig(DeepModelConfig):
    """Depth, heads and widths of the attention, and whether an MLP stands beside it."""

    attention_layers: int = 3
    attention_heads: int = 2
    attention_dim: int = 32
    """Width of one head."""
    deep: bool = True
    """AutoInt+: the MLP of ``top_mlp`` over the fields' vectors adds its logit."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        for key in ("attention_layers", "attention_heads", "attention_dim"):
            value = getattr(self, key)
            require(value >= 1, f"model.{key}", ">= 1", value)


@register_model("autoint", AutoIntConfig)
class AutoInt(nn.Module):
    """Interacting layers over the fields, a linear logit, and the MLP's logit.

    Tables of other widths than ``embedding_dim`` are projected to it.
    """

    def __init__(self, config: AutoIntConfig, schema: FeatureSchema) -> None:
        super().__init__()
        width, heads = config.embedding_dim, config.attention_heads
        self.fields = FieldVectors(
            schema, embedding_dim=width, dropout=config.embedding_dropout
        )
        num_fields = self.fields.num_fields
        output_dim = heads * config.attention_dim
        inputs = [width] + [output_dim] * (config.attention_layers - 1)
        self.attention = nn.Sequential(
            *(
                FieldAttention(dim, num_heads=heads, head_dim=config.attention_dim)
                for dim in inputs
            )
        )
        self.logit = MLP(num_fields * output_dim, [], output_dim=1)
        self.top_mlp: MLP | None = None
        if config.deep:
            self.top_mlp = MLP(
                num_fields * width,
                config.top_mlp,
                output_dim=1,
                dropout=config.dropout,
                batch_norm=config.batch_norm,
            )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        fields = self.fields(batch)
        logits: torch.Tensor = self.logit(self.attention(fields).flatten(1))
        if self.top_mlp is not None:
            logits = logits + self.top_mlp(fields.flatten(1))
        return logits
