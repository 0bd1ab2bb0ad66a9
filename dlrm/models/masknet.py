"""MaskNet: blocks under instance-guided masks (Wang et al. 2021).

"MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by
Instance-Guided Mask", section 3.

Shape suffixes: B = batch, F = fields, D = width of a field's vector, I = F * D.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import nn

from dlrm.config.checks import require
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.layers.mask_block import MaskBlock
from dlrm.layers.mlp import MLP
from dlrm.models.inputs import FieldVectors


class BlockOrder(Enum):
    """What each mask block masks."""

    serial = "serial"
    """The block before it; the first one the embeddings (section 3.4)."""
    parallel = "parallel"
    """The embeddings; the blocks' outputs are laid side by side (section 3.5)."""


@dataclass(kw_only=True, slots=True)
class MaskNetConfig(DeepModelConfig):
    """Number, width and order of the mask blocks. The paper's serial has no top MLP."""

    block_order: BlockOrder = BlockOrder.parallel
    num_blocks: int = 3
    block_dim: int = 64
    """Width of each block's output."""
    mask_reduction: float = 1.0
    """Width of a mask's inner layer, as a multiple of the vector it masks."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        DeepModelConfig.__post_init__(self)
        require(self.num_blocks >= 1, "model.num_blocks", ">= 1", self.num_blocks)
        require(self.block_dim >= 1, "model.block_dim", ">= 1", self.block_dim)
        positive = self.mask_reduction > 0
        require(positive, "model.mask_reduction", "> 0", self.mask_reduction)


@register_model("masknet", MaskNetConfig)
class MaskNet(nn.Module):
    """Mask blocks over layer-normalised embeddings, then the top MLP.

    Each field has a layer norm of its own; masks are made of the embeddings as they
    were before it.
    """

    def __init__(self, config: MaskNetConfig, schema: FeatureSchema) -> None:
        super().__init__()
        width = config.embedding_dim
        self.fields = FieldVectors(
            schema, embedding_dim=width, dropout=config.embedding_dropout
        )
        self.norm_scale = nn.Parameter(torch.ones(self.fields.num_fields, width))
        self.norm_shift = nn.Parameter(torch.zeros(self.fields.num_fields, width))
        self.serial = config.block_order is BlockOrder.serial
        input_dim = self.fields.num_fields * width
        self.blocks = nn.ModuleList(
            MaskBlock(
                input_dim,
                config.block_dim if self.serial and number else input_dim,
                config.block_dim,
                reduction=config.mask_reduction,
                dropout=config.dropout,
            )
            for number in range(config.num_blocks)
        )
        joined_dim = config.block_dim * (1 if self.serial else config.num_blocks)
        self.top_mlp = MLP(
            joined_dim,
            config.top_mlp,
            output_dim=1,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        x_BFD = self.fields(batch)
        normed_BFD = nn.functional.layer_norm(x_BFD, x_BFD.shape[2:])
        normed_BFD = torch.addcmul(self.norm_shift, self.norm_scale, normed_BFD)
        embeddings_BI, hidden = x_BFD.flatten(1), normed_BFD.flatten(1)
        if not self.serial:
            outputs = [block(embeddings_BI, hidden) for block in self.blocks]
            return self.top_mlp(torch.cat(outputs, dim=1))
        for block in self.blocks:
            hidden = block(embeddings_BI, hidden)
        return self.top_mlp(hidden)
