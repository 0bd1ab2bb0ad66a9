"""Native kernels against torch's operators, which are their definition."""

from __future__ import annotations

import pytest
import torch

from dlrm.kernels.library import native
from dlrm.layers import dense_passes
from dlrm.layers.dense_passes import (
    add_bias_,
    cross_gradients,
    cross_values,
    is_fused,
    masked_gradient,
    weight_gradient,
)

SHAPES = [(1, 1), (5, 3), (130, 16), (257, 37), (0, 4)]

needs_native = pytest.mark.skipif(not native(), reason="needs the native kernels")


@pytest.fixture(params=["native", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(dense_passes, "native", lambda: False)
    elif not native():
        pytest.skip("needs the native kernels")


def close(result: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare with a float64 value, to a few of float32's roundings."""
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [True, False])
def test_a_bias_is_added_to_every_row_and_relu_cuts_off(shape, relu):
    values, bias = torch.randn(shape), torch.randn(shape[1])
    expected = values.double() + bias.double()
    add_bias_(values, bias, relu=relu)
    close(values, expected.clamp(min=0) if relu else expected)


@pytest.mark.usefixtures("path")
def test_a_value_that_is_not_a_number_stays_one_behind_relu():
    values = torch.full((2, 17), float("nan"))
    add_bias_(values, torch.zeros(17), relu=True)
    assert values.isnan().all()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("in_place", [True, False])
def test_a_gradient_passes_where_the_output_is_above_zero(shape, in_place):
    grad, outputs = torch.randn(shape), torch.randn(shape).relu()
    given, kept = grad.clone(), outputs > 0
    masked, sums = masked_gradient(grad, outputs, in_place=in_place)
    close(masked, given.double() * kept)
    close(sums, (given.double() * kept).sum(0))
    if not in_place:
        assert torch.equal(grad, given)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", ["sliced", "expanded", "turned"])
def test_a_gradient_may_lie_in_memory_as_it_likes(kind):
    grad = {
        "sliced": torch.randn(40, 50)[:, 3:20],
        "expanded": torch.randn(1).expand(40, 17),
        "turned": torch.randn(17, 40).t(),
    }[kind]
    given, outputs = grad.clone(), torch.randn(40, 17).relu()
    masked, sums = masked_gradient(grad, outputs, in_place=False)
    close(masked, given.double() * (outputs > 0))
    close(masked_gradient(grad, None, in_place=False)[1], given.double().sum(0))
    close(sums, (given.double() * (outputs > 0)).sum(0))
    assert torch.equal(grad, given)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 40), (40, 3), (40, 50)])
def test_a_weight_gradient_is_the_product_over_rows(inputs, outputs):
    grad, x = torch.randn(20, outputs), torch.randn(20, inputs)
    result = weight_gradient(grad, x)
    close(result, grad.double().t() @ x.double())
    assert result.is_contiguous()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cross_and_its_gradients_are_those_of_the_formula(shape):
    product, first, values, grad = (torch.randn(shape) for _ in range(4))
    bias = torch.randn(shape[1])
    wide = [x.double() for x in (product, bias, first, values, grad)]
    result = cross_values(product, bias, first, values)
    close(result, wide[2] * (wide[0] + wide[1]) + wide[3])
    of_product, of_bias, of_first = cross_gradients(grad, product, bias, first, None)
    close(of_product, wide[4] * wide[2])
    close(of_bias, (wide[4] * wide[2]).sum(0))
    close(of_first, wide[4] * (wide[0] + wide[1]))
    again = cross_gradients(grad, product, bias, first, of_first.clone())[2]
    close(again, 2 * wide[4] * (wide[0] + wide[1]))


@needs_native
def test_sums_are_the_same_to_the_bit_for_any_number_of_threads():
    grad, outputs = torch.randn(1000, 33), torch.randn(1000, 33).relu()
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(masked_gradient(grad, outputs, in_place=False)[1])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_native
def test_the_kernels_refuse_another_shape():
    with pytest.raises(RuntimeError):
        torch.ops.dlrm.add_bias_(torch.zeros(2, 3), torch.zeros(4), True)
    with pytest.raises(RuntimeError, match="one shape"):
        cross_values(
            torch.zeros(2, 3), torch.zeros(3), torch.zeros(3, 3), torch.ones(1)
        )


def test_layers_leave_autocast_and_other_shapes_to_torch():
    assert is_fused(torch.zeros(2, 3))
    assert not is_fused(torch.zeros(2, 3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fused(torch.zeros(2, 3))
