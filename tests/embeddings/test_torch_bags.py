"""The torch kernel as sharded backends use it: given memory, and step by step."""

from __future__ import annotations

import pytest
import torch

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.table_options import Gradient, TableDtype, TableOptions
from dlrm.embeddings.flat_bags import FlatBags, concatenate
from dlrm.embeddings.kernel_options import kernel_options
from dlrm.embeddings.torch_bags import TorchBags
from tests.embeddings.oracle import CPU, keyed_bags, row_table, table

OPTIONS = {
    "none": TableOptions(),
    "all": TableOptions(
        max_norm=1.0,
        scale_grad_by_freq=True,
        gradient=Gradient.dense,
        padding_idx=1,
        admit_after=1,
    ),
    "float16": TableOptions(dtype=TableDtype.float16),
}
FIRST = {"a": [[1, 1, 4], []], "b": [[3], [3, 0]], "c": [[], [1, 5]]}
SECOND = {"a": [[0]], "b": [[]], "c": [[6, 4]]}
BOTH = {name: FIRST[name] + SECOND[name] for name in FIRST}
ONE_HOT = {"a": [[2]], "b": [[1]], "c": [[2]]}


def kernel(kind: str, options: TableOptions, weight: torch.Tensor) -> TorchBags:
    if kind == "rows":
        tables = [
            row_table("s", 7, 4, ["a", "c"], options),
            row_table("o", 4, 4, ["b"], options),
        ]
    else:
        tables = [
            table("s", 7, 4, ["a", "c"], kind, options),
            table("o", 4, 4, ["b"], kind, options),
        ]
    adagrad = SparseOptimizer(name=SparseOptimizerName.adagrad, lr=0.1)
    resolved = kernel_options(tables[0], adagrad)
    return TorchBags(
        tables, resolved, device=CPU, weight=weight.clone().to(resolved.dtype)
    )


def start() -> torch.Tensor:
    return torch.randn(11, 4, generator=torch.Generator().manual_seed(0))


def flat(bags: TorchBags, batch: dict[str, list[list[int]]]) -> FlatBags:
    keyed = keyed_bags({name: batch[name] for name in "acb"})
    return bags.flatten(keyed.values(), keyed.offsets(), None)


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize("option", OPTIONS)
def test_parts_of_a_batch_join_to_the_step_of_the_whole(kind, option):
    whole = kernel(kind, OPTIONS[option], start())
    replica = kernel(kind, OPTIONS[option], start())
    gradient = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    for step in range(2):
        torch.manual_seed(step)
        bags = flat(whole, BOTH)
        whole.update(bags, whole.bag_gradients(bags, gradient))
        torch.manual_seed(step)
        parts = [flat(replica, FIRST), flat(replica, SECOND)]
        pieces = zip(parts, gradient.split([2, 1]), strict=True)
        per_bag = [replica.bag_gradients(part, piece) for part, piece in pieces]
        replica.update(concatenate(parts), torch.cat(per_bag))
    for index in range(2):
        assert torch.equal(replica.weight(index), whole.weight(index))
        state = whole.optimizer_state(index) | whole.counters(index)
        found = replica.optimizer_state(index) | replica.counters(index)
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_bags_of_one_id_join_bags_of_many():
    bags = kernel("sum", TableOptions(), start())
    parts = [flat(bags, ONE_HOT), flat(bags, FIRST), flat(bags, ONE_HOT)]
    assert parts[0].bag_of_id is None
    joined = concatenate(parts)
    expected = torch.cat([bags.look_up(part) for part in parts])
    assert torch.equal(bags.look_up(joined), expected)
    assert joined.bag_of_id is not None
    assert joined.bag_of_id.tolist() == [
        bag for bag, n in enumerate(joined.offsets.diff().tolist()) for _ in range(n)
    ]
    assert concatenate([parts[0], parts[2]]).bag_of_id is None


@pytest.mark.parametrize("kind", ["sum", "rows"])
def test_exchange_trains_on_what_it_returns(kind):
    bags = kernel(kind, TableOptions(), start())
    other = kernel(kind, TableOptions(), start())

    def exchange(own: FlatBags, per_bag: torch.Tensor) -> tuple[FlatBags, torch.Tensor]:
        return concatenate([own, own]), torch.cat([per_bag, per_bag])

    bags.exchange = exchange
    for each, factor in ((bags, 1.0), (other, 2.0)):
        keyed = keyed_bags({name: FIRST[name] for name in "acb"})
        vectors = each.pooled(keyed.values(), keyed.offsets(), None)
        (vectors.square().sum() * factor).backward()
    for index in range(2):
        torch.testing.assert_close(bags.weight(index), other.weight(index))


@pytest.mark.parametrize("kind", ["sum", "rows"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_lookup_changes_nothing_before_its_backward(kind, option):
    bags = kernel(kind, OPTIONS[option], start() * 3)
    before = bags.weight(0).clone()
    keyed = keyed_bags({name: FIRST[name] for name in "acb"})
    vectors = bags.pooled(keyed.values(), keyed.offsets(), None)
    assert torch.equal(bags.weight(0), before)
    vectors.sum().backward()
    vectors = bags.pooled(keyed.values(), keyed.offsets(), None)
    vectors.square().sum().backward()
    assert not torch.equal(bags.weight(0), before)


def test_given_memory_is_trained_in_place():
    memory = start()
    config = table("t", 3, 4, ["f"])
    sgd = SparseOptimizer(name=SparseOptimizerName.sgd, lr=1.0)
    options = kernel_options(config, sgd)
    bags = TorchBags([config], options, device=CPU, weight=memory[2:5])
    expected = memory.clone()
    expected[3] -= 1.0
    bags.pooled(torch.tensor([1]), torch.tensor([0, 1]), None).sum().backward()
    assert torch.equal(memory, expected)
