"""A multi-layer perceptron.

Shape suffixes: B = batch, I = input width, O = output width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class MLP(nn.Module):
    """Linear layers, each with ReLU and, if asked for, normalisation and dropout.

    With ``output_dim`` a last linear layer without activation is added, as for logits.
    The order within a layer is linear, batch norm, ReLU, dropout.
    """

    def __init__(
        self,
        input_dim: int,
        widths: Sequence[int],
        *,
        output_dim: int | None = None,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Linear(input_dim, width))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.ReLU(inplace=True))
            if dropout:
                layers.append(nn.Dropout(dropout))
            input_dim = width
        if output_dim is not None:
            layers.append(nn.Linear(input_dim, output_dim))
        self.layers = nn.Sequential(*layers)
        self.output_dim = input_dim if output_dim is None else output_dim

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return [B, O], where O is ``output_dim`` or the last width."""
        return self.layers(x_BI)
