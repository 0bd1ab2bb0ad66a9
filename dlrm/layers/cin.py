"""The compressed interaction network of xDeepFM (Lian et al. 2018, section 3.1).

Shape suffixes: B = batch, F = fields, D = width of a field's vector, H = feature maps
of the layer before, K = feature maps of all layers together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class CompressedInteraction(nn.Module):
    """Feature maps of products of vectors, each column of the vectors on its own.

    Map h of layer l is sum_ij W^l_hij (X^{l-1}_i * X^0_j), a product element by
    element, where X^0 are the fields' vectors. As in the paper's formula there is no
    bias and no activation, and every map goes both to the output and into the next
    layer (the authors' code can also split them in halves).
    """

    def __init__(self, num_fields: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = [num_fields, *widths[:-1]]
        self.layers = nn.ModuleList(
            nn.Linear(num_maps * num_fields, width, bias=False)
            for num_maps, width in zip(inputs, widths, strict=True)
        )
        for parameter in self.parameters():
            nn.init.xavier_normal_(parameter)
        self.output_dim = sum(widths)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Return every map summed over its columns, [B, K]."""
        # Columns go before fields, so that one matrix product a layer makes the maps
        # of all rows and columns, in the layout that the next layer reads.
        fields_BDF = x_BFD.transpose(1, 2).contiguous()
        maps_BDH = fields_BDF
        pooled = []
        for layer in self.layers[:-1]:
            maps_BDH = layer(_products(maps_BDH, fields_BDF))
            pooled.append(maps_BDH.sum(dim=1))
        # The last maps are read as sums over columns alone. A sum of products is a
        # matrix product, so no column of these maps is made by itself.
        summed_BHF = maps_BDH.transpose(1, 2) @ fields_BDF
        pooled.append(self.layers[-1](summed_BHF.flatten(1)))
        return torch.cat(pooled, dim=1)


def _products(maps_BDH: torch.Tensor, fields_BDF: torch.Tensor) -> torch.Tensor:
    """Return every map times every field, [B, D, H * F].

    As matrix products of a column and a row: their gradient is two more of them, which
    on a CPU takes half the time of the sums that an elementwise product's needs.
    """
    columns = maps_BDH.flatten(0, 1)[:, :, None]
    rows = fields_BDF.flatten(0, 1)[:, None, :]
    products = torch.bmm(columns, rows).flatten(1)
    return products.unflatten(0, fields_BDF.shape[:2])
