"""Every kernel against float64 loops: pooled values, updates and optimizer state."""

from __future__ import annotations

import pytest
import torch

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.embeddings.kernel_options import kernel_options
from dlrm.embeddings.kernels import Kernel, build_kernels, choose_kernel
from dlrm.embeddings.local import to_local
from dlrm.embeddings.state import set_sparse_rate_factor, table_states
from tests.embeddings.oracle import (
    CPU,
    KERNELS,
    TRAINERS,
    keyed_bags,
    plain_model,
    table,
)
from tests.embeddings.oracle_run import ONE_ROW, run_against_oracle

NAMES = SparseOptimizerName


@pytest.mark.parametrize(("kernel", "name"), TRAINERS)
@pytest.mark.parametrize("kind", ["sum", "mean", "weighted", "rows"])
def test_three_steps_follow_the_definition(kernel, name, kind):
    run_against_oracle(
        SparseOptimizer(name=name, lr=0.1),
        kernel,
        kind=kind,
    )


@pytest.mark.parametrize(("kernel", "name"), TRAINERS)
def test_a_batch_of_one_row_follows_the_definition(kernel, name):
    run_against_oracle(SparseOptimizer(name=name), kernel, batches=(ONE_ROW,))


@pytest.mark.parametrize("name", list(NAMES))
def test_weight_decay_is_added_to_the_gradient_of_touched_rows(name):
    options = SparseOptimizer(name=name, lr=0.1, weight_decay=0.3)
    resolved = kernel_options(table("t", 3, 4, ["f"]), options)
    assert choose_kernel(resolved, CPU) is not Kernel.fbgemm
    run_against_oracle(options, Kernel.torch)
    run_against_oracle(options, None)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pooling", ["sum", "mean", "rows"])
def test_clip_value_limits_each_element_of_the_pooled_gradient(kernel, pooling):
    options = SparseOptimizer(name=NAMES.rowwise_adagrad, lr=0.1, clip_value=0.2)
    run_against_oracle(options, kernel, kind=pooling)


@pytest.mark.parametrize("widths", [(4, 8), (3, 5), (8, 1)])
@pytest.mark.parametrize("name", [NAMES.sgd, NAMES.rowwise_adagrad, NAMES.adam])
def test_tables_of_any_widths_train_in_one_collection(widths, name):
    run_against_oracle(SparseOptimizer(name=name, lr=0.1), None, widths=widths)


@pytest.mark.skipif(Kernel.native not in KERNELS, reason="nothing was compiled")
def test_the_kernel_on_a_cpu_is_native_where_it_is_there_and_right():
    def chosen(device: str = "cpu", **options: object) -> Kernel:
        resolved = kernel_options(table("t", 3, 5, ["f"]), SparseOptimizer(**options))
        return choose_kernel(resolved, torch.device(device))

    assert chosen(name=NAMES.adam, eps=0.0, weight_decay=0.1) is Kernel.native
    assert chosen(name=NAMES.lamb) is Kernel.torch
    assert chosen(device="cuda", name=NAMES.sgd) is Kernel.torch


@pytest.mark.usefixtures("without_native")
def test_the_kernel_is_fbgemm_only_where_its_numbers_are_right():
    def chosen(width: int = 4, device: str = "cpu", **options: object) -> Kernel:
        optimizer = SparseOptimizer(**options)
        resolved = kernel_options(table("t", 3, width, ["f"]), optimizer)
        return choose_kernel(resolved, torch.device(device))

    assert chosen(name=NAMES.rowwise_adagrad) is Kernel.fbgemm
    assert chosen(name=NAMES.sgd, eps=0.0) is Kernel.fbgemm
    assert chosen(name=NAMES.adagrad, eps=0.0) is Kernel.torch
    assert chosen(name=NAMES.sgd, weight_decay=0.1) is Kernel.torch
    assert chosen(width=6, name=NAMES.sgd) is Kernel.torch
    assert chosen(name=NAMES.adam) is Kernel.torch
    assert chosen(device="cuda", name=NAMES.adam) is Kernel.fbgemm
    assert chosen(device="cuda", name=NAMES.lamb) is Kernel.torch


@pytest.mark.parametrize("name", list(NAMES))
def test_zero_gradients_with_eps_0_keep_fresh_rows_finite(name):
    model = plain_model([table("t", 3, 4, ["f"])])
    before = model.bags.embedding_bags["t"].weight.detach().clone()
    options = SparseOptimizer(name=name, eps=0.0, lr=0.1)
    to_local(model, optimizer=options, device=CPU)
    (model.bags(keyed_bags({"f": [[0, 1], [1]]})).values() * 0.0).sum().backward()
    assert torch.equal(table_states(model)["t"].weight, before)


@pytest.mark.parametrize("name", [NAMES.lamb, NAMES.partial_rowwise_lamb])
def test_lamb_moves_a_row_of_zeros_as_adam_does(name):
    model = plain_model([table("t", 2, 4, ["f"])])
    with torch.no_grad():
        model.bags.embedding_bags["t"].weight.zero_()
    to_local(model, optimizer=SparseOptimizer(name=name, lr=0.1), device=CPU)
    model.bags(keyed_bags({"f": [[1]]})).values().sum().backward()
    weight = table_states(model)["t"].weight
    torch.testing.assert_close(weight[1], torch.full((4,), -0.1))
    assert torch.equal(weight[0], torch.zeros(4))


@pytest.mark.parametrize("kernel", KERNELS)
def test_evaluation_and_no_grad_change_nothing(kernel):
    model = plain_model([table("t", 3, 4, ["f"])])
    options = SparseOptimizer(name=NAMES.rowwise_adagrad)
    to_local(model, optimizer=options, device=CPU, kernel=kernel)
    before = table_states(model)["t"].weight.clone()
    bags = keyed_bags({"f": [[0, 1], [1]]})
    with torch.no_grad():
        assert not model.bags(bags).values().requires_grad
    model.eval()
    assert not model.bags(bags).values().requires_grad
    assert torch.equal(table_states(model)["t"].weight, before)
    model.train()
    assert model.bags(bags).values().requires_grad


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_new_learning_rate_holds_from_the_next_step(kernel):
    model = plain_model([table("t", 2, 4, ["f"])])
    options = SparseOptimizer(name=NAMES.sgd, lr=1.0)
    to_local(model, optimizer=options, device=CPU, kernel=kernel)
    before = table_states(model)["t"].weight.clone()
    for lr in (0.5, 0.25):
        set_sparse_rate_factor(model, lr)
        model.bags(keyed_bags({"f": [[1]]})).values().sum().backward()
    torch.testing.assert_close(table_states(model)["t"].weight[1], before[1] - 0.75)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_of_ids_receive_their_gradient(kernel):
    model = plain_model([table("t", 3, 4, ["f"])], is_weighted=True)
    weight = model.bags.embedding_bags["t"].weight.detach().clone()
    options = SparseOptimizer(name=NAMES.sgd, lr=0.5)
    to_local(model, optimizer=options, device=CPU, kernel=kernel)
    bags = keyed_bags({"f": [[0, 1], [], [1]]}, seed=0)
    bags.weights().requires_grad_()
    factor = torch.tensor([[1.0, 2.0, 3.0, 4.0], [9.0] * 4, [-1.0, 0.0, 1.0, 0.5]])
    (model.bags(bags).values() * factor).sum().backward()
    expected = [weight[0] @ factor[0], weight[1] @ factor[0], weight[1] @ factor[2]]
    torch.testing.assert_close(bags.weights().grad, torch.stack(expected))


def test_many_rows_are_updated_in_chunks_as_in_one(monkeypatch):
    monkeypatch.setattr("dlrm.embeddings.row_training._VALUES_PER_CHUNK", 8)
    run_against_oracle(SparseOptimizer(name=NAMES.adam, lr=0.1), Kernel.torch)


def test_a_weighted_mean_table_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"Table 't' .* pooled by mean"):
        build_kernels(
            [table("t", 3, 4, ["f"], "mean")],
            is_weighted=True,
            optimizer=SparseOptimizer(),
            device=CPU,
        )


def test_bags_that_are_all_empty_pool_to_zeros_and_change_nothing():
    for kernel, name in TRAINERS:
        model = plain_model([table("t", 3, 4, ["f"]), table("u", 3, 4, ["g"])])
        to_local(model, optimizer=SparseOptimizer(name=name), device=CPU, kernel=kernel)
        before = table_states(model)["t"].weight.clone()
        vectors = model.bags(keyed_bags({"f": [[], []], "g": [[], []]})).values()
        assert torch.equal(vectors, torch.zeros(2, 8))
        vectors.sum().backward()
        assert torch.equal(table_states(model)["t"].weight, before)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_batch_without_rows_passes_through(kernel):
    model = plain_model([table("t", 3, 4, ["f"]), table("u", 3, 4, ["g"])])
    options = SparseOptimizer(name=NAMES.sgd)
    to_local(model, optimizer=options, device=CPU, kernel=kernel)
    vectors = model.bags(keyed_bags({"f": [], "g": []})).values()
    assert vectors.shape == (0, 8)
    vectors.sum().backward()
