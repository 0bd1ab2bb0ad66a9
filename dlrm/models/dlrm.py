"""DLRM, the deep learning recommendation model.

Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and
Recommendation Systems".

Shape suffixes: B = batch, N = dense columns, F = vectors, D = width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import nn

from dlrm.config.checks import check_widths, require
from dlrm.config.errors import ConfigError
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.layers.cross import CrossKind, CrossNetwork, build_cross
from dlrm.layers.joined_dot import JoinedDot
from dlrm.layers.mlp import MLP
from dlrm.layers.projected_dot import ProjectedDot
from dlrm.layers.projections import Projections

_ALIGNMENT = 16
"""Columns; 64 bytes of float32, a cache line."""


class Interaction(Enum):
    """What the top MLP sees beside the dense vector."""

    dot = "dot"
    """The dot products of every pair of vectors."""
    cat = "cat"
    """The vectors themselves."""
    dot_cat = "dot_cat"
    """Both: pair products and vectors."""
    dcn_v2 = "dcn_v2"
    """The vectors crossed by DCN V2 (Wang et al. 2021), and nothing else."""
    projection = "projection"
    """The dot products of fewer, mixed vectors, as torchrec's DLRM_Projection."""


@dataclass(kw_only=True, slots=True)
class DLRMConfig(DeepModelConfig):
    """Widths of the two MLPs and the kind of interaction."""

    bottom_mlp: list[int] = field(default_factory=lambda: [64])
    """Hidden widths; a last layer of ``embedding_dim`` with ReLU follows."""
    interaction: Interaction = Interaction.dot
    cross: CrossKind = CrossKind.full_rank
    """Of ``dcn_v2``, as the three keys after it."""
    cross_layers: int = 3
    cross_rank: int = 64
    cross_experts: int = 4
    projection_mlp: list[int] = field(default_factory=list)
    """Of ``projection``: hidden widths of the two MLPs that mix the vectors."""
    projected_vectors: int = 4
    """Of ``projection``: vectors that each of the two mixes."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        check_widths("model.bottom_mlp", self.bottom_mlp)
        check_widths("model.projection_mlp", self.projection_mlp)
        for key in ("cross_layers", "cross_rank", "cross_experts", "projected_vectors"):
            value = getattr(self, key)
            require(value >= 1, f"model.{key}", ">= 1", value)


@register_model("dlrm", DLRMConfig)
class DLRM(nn.Module):
    """Bottom MLP and embedding bags, their interaction, and the top MLP.

    The dense vector is one of the interacting vectors, and enters the top MLP itself as
    well; under ``dcn_v2`` only crossed, as in torchrec's InteractionDCNArch. Tables of
    other widths than ``embedding_dim`` are projected to it. Without dense features
    there is no bottom MLP. The top MLP's input ends in columns of zeros up to a
    multiple of 16: its largest matrix products run on aligned rows then.
    """

    def __init__(self, config: DLRMConfig, schema: FeatureSchema) -> None:
        super().__init__()
        width = config.embedding_dim
        num_vectors = len(schema.sparse) + (schema.num_dense > 0)
        self.embeddings = FeatureEmbeddings(schema)
        self.projections = Projections(self.embeddings.widths, target_dim=width)
        self.equal_widths = set(self.embeddings.widths) <= {width}
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.bottom_mlp: MLP | None = None
        if schema.num_dense:
            self.bottom_mlp = MLP(schema.num_dense, [*config.bottom_mlp, width])
        kind = config.interaction
        self.mixer = _build_mixer(config, num_vectors * width)
        self.keeps_vectors = kind in (Interaction.cat, Interaction.dot_cat)
        # Kept or crossed vectors hold the dense one; products leave it out.
        self.keeps_dense = kind in (Interaction.dot, Interaction.projection)
        top_dim = num_vectors * width if self.keeps_vectors else 0
        if self.keeps_dense and self.bottom_mlp is not None:
            top_dim += width
        if kind in (Interaction.dot, Interaction.dot_cat):
            _check_num_vectors(num_vectors)
            top_dim += num_vectors * (num_vectors - 1) // 2
        if self.mixer is not None:
            top_dim += self.mixer.output_dim
        self.padding = -top_dim % _ALIGNMENT
        self.pairs: JoinedDot | None = None
        if kind in (Interaction.dot, Interaction.dot_cat):
            has_dense = int(self.bottom_mlp is not None)
            self.pairs = JoinedDot(
                num_vectors,
                num_kept=num_vectors if self.keeps_vectors else has_dense,
                padding=self.padding,
            )
        self.top_mlp = MLP(
            top_dim + self.padding,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        pooled = self.embedding_dropout(self._embed(batch))
        dense = None if self.bottom_mlp is None else self.bottom_mlp(batch.dense)
        return self.top_mlp(self._interact(pooled, dense))

    def _embed(self, batch: Batch) -> torch.Tensor:
        """Return the embeddings at one width, side by side; [B, 0] without any."""
        if not self.embeddings.feature_names:
            return batch.dense.new_empty(batch.dense.shape[0], 0)
        if self.equal_widths:
            return self.embeddings.concatenated(batch.sparse)
        return torch.cat(self.projections(self.embeddings(batch.sparse)), dim=1)

    def _interact(
        self, pooled: torch.Tensor, dense: torch.Tensor | None
    ) -> torch.Tensor:
        if self.pairs is not None:
            return self.pairs(pooled, dense)
        joined = pooled if dense is None else torch.cat([dense, pooled], dim=1)
        parts = []
        if self.keeps_vectors:
            parts.append(joined)
        elif self.keeps_dense and dense is not None:
            parts.append(dense)
        if self.mixer is not None:
            parts.append(self.mixer(joined))
        if self.padding:
            # Not len(): the pipeline of sharded tables traces the model.
            parts.append(joined.new_zeros(joined.shape[0], self.padding))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _build_mixer(
    config: DLRMConfig, input_dim: int
) -> CrossNetwork | ProjectedDot | None:
    """Return what reads all vectors side by side, for interactions with parameters."""
    match config.interaction:
        case Interaction.dcn_v2:
            return build_cross(
                config.cross,
                input_dim,
                num_layers=config.cross_layers,
                rank=config.cross_rank,
                num_experts=config.cross_experts,
            )
        case Interaction.projection:
            return ProjectedDot(
                input_dim,
                embedding_dim=config.embedding_dim,
                num_projected=config.projected_vectors,
                widths=config.projection_mlp,
            )
    return None


def _check_num_vectors(num_vectors: int) -> None:
    if num_vectors < 2:
        raise ConfigError(
            f"model.interaction=dot needs at least 2 vectors (the dense one and one a "
            f"sparse feature), but the data has {num_vectors}. Add a feature to "
            f"data.sparse_features or set model.interaction=cat."
        )
