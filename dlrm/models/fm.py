"""The factorization machine.

Rendle 2010, "Factorization Machines", section III: linear terms plus the dot product of
every pair of vectors.

Shape suffix: B = batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.checks import check_rate
from dlrm.config.model import ModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.pair_sum import pair_sum
from dlrm.models.inputs import FieldVectors, LinearTerms, check_num_fields


@dataclass(kw_only=True, slots=True)
class FMConfig(ModelConfig):
    """Width of the vectors, and their dropout."""

    embedding_dropout: float = 0.0
    """On the pooled vectors."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        ModelConfig.__post_init__(self)
        check_rate("model.embedding_dropout", self.embedding_dropout)


@register_model("fm", FMConfig)
class FM(nn.Module):
    """Linear terms and pair products of the fields.

    A bag of ids is one field: it pairs as a whole with the others, and its own ids are
    not paired. Tables of other widths than ``embedding_dim`` are projected to it.
    """

    def __init__(self, config: FMConfig, schema: FeatureSchema) -> None:
        super().__init__()
        check_num_fields(schema, model="fm")
        self.linear = LinearTerms(schema)
        self.fields = FieldVectors(
            schema,
            embedding_dim=config.embedding_dim,
            dropout=config.embedding_dropout,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        return self.linear(batch) + pair_sum(self.fields(batch))
