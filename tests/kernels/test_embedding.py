"""Native lookups and updates against float64 loops, straight from the definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlrm.kernels.embedding import BagBatch, BagPooling, RowOptimizer, RowStep
from dlrm.kernels.library import native

pytestmark = pytest.mark.skipif(not native(), reason="nothing was compiled")
SLOWLY = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ROWWISE = {RowOptimizer.rowwise_adagrad: (0,), RowOptimizer.partial_rowwise_adam: (1,)}
NUM_STATES = {
    RowOptimizer.sgd: 0,
    RowOptimizer.adagrad: 1,
    RowOptimizer.rowwise_adagrad: 1,
    RowOptimizer.adam: 2,
    RowOptimizer.partial_rowwise_adam: 2,
}


@dataclass
class Case:
    """Tables, and bags of their features as lists."""

    tables: list[torch.Tensor]
    bags: list[list[list[int]]]
    owners: list[int]

    def batch(
        self,
        pooling: BagPooling,
        weights: torch.Tensor | None = None,
        types: tuple[torch.dtype, torch.dtype] = (torch.int64, torch.int64),
    ) -> BagBatch:
        flat = [bag for feature in self.bags for bag in feature]
        ids = [i for bag in flat for i in bag]
        offsets = np.cumsum([0, *map(len, flat)])
        return BagBatch(
            torch.tensor(ids, dtype=types[0]),
            torch.tensor(offsets, dtype=types[1]),
            weights,
            pooling,
            self.owners,
        )

    @property
    def num_ids(self) -> int:
        return sum(len(bag) for feature in self.bags for bag in feature)

    def factors(self, pooling: BagPooling, weights: torch.Tensor | None) -> list[float]:
        """Return what each id's row is multiplied by."""
        lengths = [len(bag) for feature in self.bags for bag in feature for _ in bag]
        if weights is not None:
            return weights.double().tolist()
        return [1 / n if pooling is BagPooling.mean else 1.0 for n in lengths]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tables of 1 to 60 rows, some shared by features; bags of repeated and hot ids."""
    num_tables, batch = draw(st.integers(1, 3)), draw(st.integers(0, 5))
    seed = draw(st.integers(0, 1000))
    random = torch.Generator().manual_seed(seed)
    tables, bags, owners = [], [], []
    for index in range(num_tables):
        rows, width = draw(st.integers(1, 60)), draw(st.integers(1, 40))
        tables.append(torch.randn(rows, width, generator=random))
        for _ in range(draw(st.integers(1, 2))):
            ids = st.integers(0, rows - 1)
            bag = st.lists(ids, max_size=6)
            bags.append(draw(st.lists(bag, min_size=batch, max_size=batch)))
            owners.append(index)
    return Case(tables, bags, owners)


def pooled_by_hand(case: Case, factors: list[float]) -> np.ndarray:
    parts, place = [], 0
    for feature, owner in zip(case.bags, case.owners, strict=True):
        table = case.tables[owner].double().numpy()
        sums = np.zeros((len(feature), table.shape[1]))
        for example, bag in enumerate(feature):
            for row in bag:
                sums[example] += factors[place] * table[row]
                place += 1
        parts.append(sums)
    return np.concatenate(parts, axis=1)


def row_gradients(
    case: Case, factors: list[float], gradient: torch.Tensor
) -> list[dict[int, np.ndarray]]:
    """Return each table's touched rows and their gradients."""
    found: list[dict[int, np.ndarray]] = [{} for _ in case.tables]
    place = column = 0
    for feature, owner in zip(case.bags, case.owners, strict=True):
        width = case.tables[owner].shape[1]
        part = gradient[:, column : column + width].double().numpy()
        column += width
        for example, bag in enumerate(feature):
            for row in bag:
                g = found[owner].setdefault(row, np.zeros(width))
                g += factors[place] * part[example]
                place += 1
    return found


def stepped_by_hand(
    step: RowStep, w: np.ndarray, g: np.ndarray, state: list[np.ndarray]
) -> np.ndarray:
    """Return a row after one step; ``state`` [width or 1] changes in place."""
    g = g + step.weight_decay * w
    if step.optimizer is RowOptimizer.sgd:
        return w - step.lr * g
    if len(state) == 1:
        state[0] += (g * g).mean() if state[0].size == 1 < g.size else g * g
        return w - step.lr * g / (np.sqrt(state[0]) + step.eps)
    first, second = state
    first += (1 - step.beta1) * (g - first)
    square = (g * g).mean() if second.size == 1 < g.size else g * g
    second += (1 - step.beta2) * (square - second)
    m, v = first / (1 - step.beta1**step.step), second / (1 - step.beta2**step.step)
    return w - step.lr * m / (np.sqrt(v) + step.eps)


def states_of(optimizer: RowOptimizer, tables: list[torch.Tensor]) -> list[list]:
    rowwise = ROWWISE.get(optimizer, ())
    return [
        [
            torch.rand(len(t)) if which in rowwise else torch.rand(t.shape)
            for t in tables
        ]
        for which in range(NUM_STATES[optimizer])
    ]


def step_of(optimizer: RowOptimizer, weight_decay: float = 0.0) -> RowStep:
    return RowStep(
        optimizer=optimizer,
        lr=0.1,
        eps=1e-8,
        weight_decay=weight_decay,
        beta1=0.9,
        beta2=0.99,
        step=3,
    )


@given(case=cases(), pooling=st.sampled_from([BagPooling.sum, BagPooling.mean]))
@SLOWLY
def test_bags_are_pooled_as_defined(each_instruction_set, case, pooling):
    expected = pooled_by_hand(case, case.factors(pooling, None))
    for ids in (torch.int32, torch.int64):
        for offsets in (torch.int32, torch.int64):
            found = case.batch(pooling, types=(ids, offsets)).pool(case.tables)
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


@given(
    case=cases(), optimizer=st.sampled_from(list(RowOptimizer)), kind=st.integers(0, 2)
)
@SLOWLY
def test_touched_rows_take_the_step_of_their_summed_gradient(
    each_instruction_set, case, optimizer, kind
):
    pooling = BagPooling.mean if kind == 1 else BagPooling.sum
    weights = torch.rand(case.num_ids) if kind == 2 else None
    gradient = torch.randn(pooled_by_hand(case, [1.0] * case.num_ids).shape)
    states, step = states_of(optimizer, case.tables), step_of(optimizer, 0.3)
    expected = [table.double().numpy().copy() for table in case.tables]
    touched = row_gradients(case, case.factors(pooling, weights), gradient)
    kept = [[s.double().numpy().copy() for s in of_tables] for of_tables in states]
    for t, rows in enumerate(touched):
        for row, g in rows.items():
            state = [np.atleast_1d(which[t][row]).copy() for which in kept]
            expected[t][row] = stepped_by_hand(step, expected[t][row], g, state)
            for which, values in zip(kept, state, strict=True):
                which[t][row] = values if which[t].ndim == 2 else values[0]
    batch = case.batch(pooling, weights)
    batch.update(case.tables, states, gradient, step)
    for found, wanted in zip(case.tables, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)
    for found, wanted in zip(states, kept, strict=True):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-4)


@given(case=cases())
@SLOWLY
def test_weights_receive_their_rows_products_with_the_bags_gradient(case):
    weights = torch.rand(case.num_ids)
    batch = case.batch(BagPooling.sum, weights)
    gradient = torch.randn(batch.pool(case.tables).shape)
    found = batch.weight_gradients(case.tables, gradient).numpy()
    for place in range(case.num_ids):
        alone = [float(i == place) for i in range(case.num_ids)]
        product = (pooled_by_hand(case, alone) * gradient.double().numpy()).sum()
        assert found[place] == pytest.approx(product, rel=1e-4, abs=1e-4)


@given(case=cases())
@SLOWLY
def test_unpooled_rows_come_and_train_one_by_one(case):
    # Rows of one width alone can be one matrix.
    table = case.tables[0]
    bags = case.bags[: case.owners.count(0)]
    case = Case([table], bags, [0] * len(bags))
    batch = case.batch(BagPooling.none)
    assert torch.equal(batch.pool(case.tables), table[batch.ids])
    gradient = torch.randn(case.num_ids, table.shape[1])
    expected = table.double().index_add(0, batch.ids, gradient.double(), alpha=-0.1)
    batch.update(case.tables, [], gradient, step_of(RowOptimizer.sgd))
    torch.testing.assert_close(table.double(), expected, rtol=1e-5, atol=1e-5)


def hot_batch(num_rows: int, num_bags: int, per_bag: int, width: int) -> Case:
    """Return many uses of few rows: ids are cut into parts and chunks."""
    random = torch.Generator().manual_seed(1)
    spread = torch.rand(num_bags, per_bag, generator=random)
    ids = (spread**6 * num_rows).long()
    table = torch.randn(num_rows, width, generator=random)
    return Case([table], [ids.tolist()], [0])


@pytest.mark.parametrize("num_rows", [1, 3, 5000, 300_000])
def test_a_large_batch_of_hot_rows_is_summed_right(each_instruction_set, num_rows):
    case = hot_batch(num_rows, num_bags=1500, per_bag=25, width=4)
    batch, (table,) = case.batch(BagPooling.sum), case.tables
    # Whole numbers: float32 sums them exactly, however many uses a row has.
    gradient = torch.randint(-8, 9, (1500, 4)).float()
    per_id = gradient.double().repeat_interleave(25, dim=0)
    expected = table.double().index_add(0, batch.ids, per_id, alpha=-0.1)
    batch.update(case.tables, [], gradient, step_of(RowOptimizer.sgd))
    torch.testing.assert_close(table.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("pooling", [BagPooling.sum, BagPooling.mean])
def test_results_are_the_same_to_the_bit_for_any_number_of_threads(pooling):
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        case = hot_batch(2000, num_bags=1500, per_bag=25, width=20)
        batch = case.batch(pooling)
        states = [[torch.zeros(2000)]]
        gradient = torch.randn(1500, 20, generator=torch.Generator().manual_seed(2))
        pooled = batch.pool(case.tables)
        step = step_of(RowOptimizer.rowwise_adagrad)
        batch.update(case.tables, states, gradient, step)
        results.append((pooled, case.tables[0], states[0][0]))
    for result in results[1:]:
        for found, first in zip(result, results[0], strict=True):
            assert torch.equal(found, first)


def test_a_gradient_may_be_columns_of_a_wider_matrix():
    case = Case([torch.zeros(4, 3)], [[[0, 2], [2]]], [0])
    wide = torch.arange(10.0).view(2, 5)
    batch = case.batch(BagPooling.sum)
    batch.update(case.tables, [], wide[:, 1:4], step_of(RowOptimizer.sgd))
    expected = torch.zeros(4, 3)
    expected[0], expected[2] = wide[0, 1:4], wide[0, 1:4] + wide[1, 1:4]
    torch.testing.assert_close(case.tables[0], -0.1 * expected)


@pytest.mark.parametrize("bad", [-1, 4, 2**31 - 1])
@pytest.mark.parametrize("pooling", list(BagPooling))
def test_an_id_that_is_no_row_is_refused(bad, pooling):
    case = Case([torch.zeros(4, 3)], [[[0], [bad]]], [0])
    with pytest.raises(IndexError, match="An id is out of its table's range"):
        case.batch(pooling).pool(case.tables)


def test_a_zero_gradient_with_eps_0_leaves_a_fresh_row_alone():
    for optimizer in RowOptimizer:
        case = Case([torch.ones(2, 3)], [[[1]]], [0])
        states = [
            [torch.zeros_like(s) for s in w] for w in states_of(optimizer, case.tables)
        ]
        step = RowStep(
            optimizer=optimizer,
            lr=0.1,
            eps=0.0,
            weight_decay=0.0,
            beta1=0.9,
            beta2=0.99,
            step=1,
        )
        case.batch(BagPooling.sum).update(case.tables, states, torch.zeros(1, 3), step)
        assert torch.equal(case.tables[0], torch.ones(2, 3))
