"""The interacting layer of AutoInt (Song et al. 2019, section 4.4).

Shape suffixes: B = batch, F = fields, D = width of a field's vector, H = heads,
A = width of a head, O = H * A.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class FieldAttention(nn.Module):
    """Each field's vector becomes a mixture of all fields' values, head by head.

    The mixture's weights are softmax over fields k of <W_query e_m, W_key e_k>,
    unscaled as in the paper. The heads stand side by side, and ReLU of their sum with
    the residual W_res e_m is the field's new vector.
    """

    def __init__(self, input_dim: int, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.output_dim = num_heads * head_dim
        self.query_key_value_residual = nn.Linear(
            input_dim, 4 * self.output_dim, bias=False
        )
        for weight in self.query_key_value_residual.weight.detach().chunk(4):
            nn.init.xavier_normal_(weight)

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Return the fields' new vectors, [B, F, O]."""
        query, key, value, residual_BFO = self.query_key_value_residual(x_BFD).chunk(
            4, dim=2
        )
        mixed_BHFA = scaled_dot_product_attention(
            self._by_head(query), self._by_head(key), self._by_head(value), scale=1.0
        )
        return torch.relu(mixed_BHFA.transpose(1, 2).flatten(2) + residual_BFO)

    def _by_head(self, x_BFO: torch.Tensor) -> torch.Tensor:
        return x_BFO.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
