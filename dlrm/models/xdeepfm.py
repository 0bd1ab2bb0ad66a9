"""xDeepFM.

Lian et al. 2018, "xDeepFM: Combining Explicit and Implicit Feature Interactions for
Recommender Systems", section 3.2: linear terms, a compressed interaction network (CIN,
section 3.1) and a deep network, summed as in its equation 9.

Shape suffix: B = batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from dlrm.config.checks import check_widths, require
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.cin import CompressedInteraction
from dlrm.layers.mlp import MLP
from dlrm.models.inputs import FieldVectors, LinearTerms


@dataclass(kw_only=True, slots=True)
class XDeepFMConfig(DeepModelConfig):
    """Feature maps of the CIN, beside what every model with an MLP has."""

    cin_widths: list[int] = field(default_factory=lambda: [64, 64])
    """Feature maps of each layer of the CIN."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        check_widths("model.cin_widths", self.cin_widths)
        require(
            bool(self.cin_widths),
            "model.cin_widths",
            "one width or more",
            self.cin_widths,
        )


@register_model("xdeepfm", XDeepFMConfig)
class XDeepFM(nn.Module):
    """Linear terms, CIN and MLP over the same fields.

    Tables of other widths than ``embedding_dim`` are projected to it.
    """

    def __init__(self, config: XDeepFMConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.linear = LinearTerms(schema)
        self.fields = FieldVectors(
            schema,
            embedding_dim=config.embedding_dim,
            dropout=config.embedding_dropout,
        )
        num_fields = self.fields.num_fields
        self.cin = CompressedInteraction(num_fields, config.cin_widths)
        self.cin_logit = nn.Linear(self.cin.output_dim, 1, bias=False)
        nn.init.xavier_normal_(self.cin_logit.weight)
        self.top_mlp = MLP(
            num_fields * config.embedding_dim,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        fields = self.fields(batch)
        explicit = self.cin_logit(self.cin(fields))
        return self.linear(batch) + explicit + self.top_mlp(fields.flatten(1))
