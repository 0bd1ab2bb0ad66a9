"""FinalMLP: two MLP streams over gated features, fused bilinearly (Mao et al. 2023).

"FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", section 3.

Shape suffixes: B = batch, F = fields, D = width of a field's vector, I = F * D, C =
width of a gate's context.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from dlrm.config.checks import check_widths, require
from dlrm.config.errors import ConfigError
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.bilinear_fusion import BilinearFusion
from dlrm.layers.feature_gate import FeatureGate
from dlrm.layers.mlp import MLP
from dlrm.models.inputs import FieldVectors


@dataclass(kw_only=True, slots=True)
class FinalMLPConfig(DeepModelConfig):
    """The second stream (the first is ``top_mlp``), the gates and the fusion."""

    second_mlp: list[int] = field(default_factory=lambda: [128, 64])
    """Widths of the second stream; dropout and batch norm are those of the first."""
    feature_gates: bool = True
    """Weigh each stream's input by a gate of its own."""
    gate_mlp: list[int] = field(default_factory=lambda: [64])
    """Hidden widths of the gates."""
    first_gate_features: list[str] = field(default_factory=list)
    """Sparse features whose vectors are the first gate's context; a learned vector
    where there are none."""
    second_gate_features: list[str] = field(default_factory=list)
    """The same for the second gate."""
    fusion_heads: int = 1
    """Slices of the two streams that are multiplied with each other."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        check_widths("model.gate_mlp", self.gate_mlp)
        require(self.fusion_heads >= 1, "model.fusion_heads", ">= 1", self.fusion_heads)
        for key in ("first_gate_features", "second_gate_features"):
            names = getattr(self, key)
            unread = bool(names) and not self.feature_gates
            require(not unread, f"model.{key}", "[] without model.feature_gates", names)
        for key in ("top_mlp", "second_mlp"):
            widths = getattr(self, key)
            check_widths(f"model.{key}", widths)
            require(
                bool(widths) and widths[-1] % self.fusion_heads == 0,
                f"model.{key}",
                f"a list whose last width is a multiple of model.fusion_heads="
                f"{self.fusion_heads}",
                widths,
            )


@register_model("finalmlp", FinalMLPConfig)
class FinalMLP(nn.Module):
    """Gates, two MLPs, and the bilinear fusion of their last hidden layers."""

    def __init__(self, config: FinalMLPConfig, schema: FeatureSchema) -> None:
        super().__init__()
        width = config.embedding_dim
        self.fields = FieldVectors(
            schema, embedding_dim=width, dropout=config.embedding_dropout
        )
        input_dim = self.fields.num_fields * width
        self.contexts = (
            _positions("first_gate_features", config.first_gate_features, schema),
            _positions("second_gate_features", config.second_gate_features, schema),
        )
        self.gates = nn.ModuleList(
            FeatureGate(
                input_dim,
                config.gate_mlp,
                context_dim=len(context) * width,
                free_dim=width,
            )
            for context in self.contexts
            if config.feature_gates
        )
        self.streams = nn.ModuleList(
            MLP(input_dim, widths, dropout=config.dropout, batch_norm=config.batch_norm)
            for widths in (config.top_mlp, config.second_mlp)
        )
        self.fusion = BilinearFusion(
            config.top_mlp[-1], config.second_mlp[-1], num_heads=config.fusion_heads
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        x_BFD = self.fields(batch)
        inputs = [x_BFD.flatten(1)] * 2
        if len(self.gates):
            inputs = [
                gate(x_BI, x_BFD[:, context].flatten(1) if context else None)
                for gate, x_BI, context in zip(
                    self.gates, inputs, self.contexts, strict=True
                )
            ]
        first, second = self.streams
        logits_B1: torch.Tensor = self.fusion(first(inputs[0]), second(inputs[1]))
        return logits_B1


def _positions(key: str, names: list[str], schema: FeatureSchema) -> list[int]:
    """Return the named features' places among the fields, dense columns first."""
    known = [feature.name for feature in schema.sparse]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"model.{key} must name sparse features, but {unknown[0]} is none of "
            f"{', '.join(known) or 'them: the data has none'}."
        )
    return [schema.num_dense + known.index(name) for name in names]
