"""A multi-layer perceptron.

Shape suffixes: B = batch, I = input width, O = output width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from dlrm.layers.dense_passes import is_fused
from dlrm.layers.linear_chain import linear_chain


class MLP(nn.Module):
    """Linear layers, each with ReLU and, if asked for, normalisation and dropout.

    With ``output_dim`` a last linear layer without activation is added, as for logits.
    The order within a layer is linear, batch norm, ReLU, dropout. Initial weights are
    normal with variance 2 / (I + O), biases with 1 / O, as in the DLRM authors' code
    (Naumov et al. 2019).

    On a CPU linear layers that only ReLU parts are computed as one function, the same
    to rounding: hooks on them are then not called, only those on the MLP.
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
            layers.append(_linear(input_dim, width))
            if batch_norm:
                layers.append(BatchNorm(width))
            layers.append(nn.ReLU(inplace=True))
            if dropout:
                layers.append(nn.Dropout(dropout))
            input_dim = width
        if output_dim is not None:
            layers.append(_linear(input_dim, output_dim))
        self.layers = nn.Sequential(*layers)
        self.output_dim = input_dim if output_dim is None else output_dim

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return [B, O], where O is ``output_dim`` or the last width."""
        if not is_fused(x_BI):
            return self.layers(x_BI)
        for chain in _chains(self.layers):
            linears = [layer for layer in chain if isinstance(layer, nn.Linear)]
            if linears:
                last_relu = linears[-1] is not chain[-1]
                x_BI = linear_chain(x_BI, linears, last_relu=last_relu)
            else:
                x_BI = chain[0](x_BI)
        return x_BI


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that a batch of one row does not stop.

    One row has no variance, so it is normalised by the running statistics, which it
    leaves as they are: the short last batch of an epoch may be that one row.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the normalised input, of the same shape."""
        if not self.training or len(input) != 1:
            return super().forward(input)
        return nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias
        )


def _chains(layers: Iterable[nn.Module]) -> list[list[nn.Module]]:
    """Cut layers into what is one function each.

    Linear layers that only ReLU parts stay together; all else stands alone.
    """
    chains: list[list[nn.Module]] = [[]]
    for layer in layers:
        last = chains[-1][-1:]
        after = nn.Linear if isinstance(layer, nn.ReLU) else nn.ReLU
        follows = isinstance(layer, nn.Linear | nn.ReLU) and isinstance(
            chains[-1][0] if last else None, nn.Linear
        )
        if follows and isinstance(last[0], after):
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains[1:]


def _linear(input_dim: int, output_dim: int) -> nn.Linear:
    layer = nn.Linear(input_dim, output_dim)
    nn.init.normal_(layer.weight, std=(2 / (input_dim + output_dim)) ** 0.5)
    nn.init.normal_(layer.bias, std=(1 / output_dim) ** 0.5)
    return layer
