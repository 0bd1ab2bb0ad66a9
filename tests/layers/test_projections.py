from __future__ import annotations

import torch
from torch import nn

from dlrm.layers.projections import Projections


def test_vectors_of_the_target_width_pass_unchanged_and_cost_no_parameter():
    projections = Projections([4, 4], target_dim=4)
    vectors = [torch.randn(3, 4), torch.randn(3, 4)]
    assert list(projections.parameters()) == []
    assert projections(vectors)[0] is vectors[0]
    assert projections(vectors)[1] is vectors[1]


def test_other_widths_are_mapped_linearly():
    projections = Projections([2, 4], target_dim=4)
    linear = projections.maps[0]
    assert isinstance(linear, nn.Linear)
    vector = torch.randn(3, 2)
    mapped = projections([vector, torch.zeros(3, 4)])[0]
    torch.testing.assert_close(mapped, vector @ linear.weight.T)
    assert linear.bias is None
