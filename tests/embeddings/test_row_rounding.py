"""Tables in 16 bits: float32 steps, rounded right on average or to the nearest."""

from __future__ import annotations

import pytest
import torch

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.table_options import Gradient, TableDtype, TableOptions
from dlrm.embeddings.local import to_local
from dlrm.embeddings.row_rounding import round_stochastically
from dlrm.embeddings.state import table_states
from tests.embeddings.oracle import CPU, keyed_bags, plain_model, row_table, table
from tests.embeddings.oracle_run import vectors_of

NAMES = SparseOptimizerName
HALVES = [torch.float16, torch.bfloat16]
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def neighbours(dtype: torch.dtype) -> torch.Tensor:
    """Return all finite values of ``dtype`` in order, as float32."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    values = bits.view(dtype).float()
    return values[values.isfinite()].unique()


@pytest.mark.parametrize("dtype", HALVES)
def test_values_of_the_type_stay(dtype):
    values = neighbours(dtype)
    torch.manual_seed(0)
    assert torch.equal(round_stochastically(values, dtype).float(), values)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_value_goes_to_one_of_its_two_neighbours(dtype):
    grid = neighbours(dtype)
    random = torch.Generator().manual_seed(1)
    place = torch.randint(len(grid) - 1, (20_000,), generator=random)
    share = torch.rand(20_000, generator=random, dtype=torch.float64)
    low, high = grid[place].double(), grid[place + 1].double()
    values = (low + share * (high - low)).float()
    rounded = round_stochastically(values, dtype, generator=random).double()
    assert ((rounded == low) | (rounded == high)).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
# Ordinary sizes of both signs, either side of a power of two, and float16's evenly
# spaced smallest values.
@pytest.mark.parametrize("low", [1.0, -3.0, 0.9995117, 2.0**-15, -(2.0**-16)])
def test_the_upper_neighbour_is_as_likely_as_the_value_is_near_it(dtype, share, low):
    grid = neighbours(dtype)
    place = int((grid <= low).sum()) - 1
    bottom, top = grid[place].double(), grid[place + 1].double()
    value = (bottom + share * (top - bottom)).float()
    torch.manual_seed(2)
    count = 40_000
    rounded = round_stochastically(value.expand(count).contiguous(), dtype).double()
    found = (rounded == top).double().mean()
    # Five standard deviations of a share of 40,000 draws are below 0.0125.
    assert abs(float(found) - share) < 0.0125


@pytest.mark.parametrize("dtype", HALVES)
def test_infinities_nan_and_values_past_the_largest_stay_what_they_are(dtype):
    largest = torch.finfo(dtype).max
    values = torch.tensor([float("inf"), -float("inf"), largest, -largest])
    assert torch.equal(round_stochastically(values, dtype).float(), values)
    assert round_stochastically(torch.tensor([float("nan")]), dtype).isnan().all()
    past = torch.full((1000,), largest * (1 + 1e-4))
    assert round_stochastically(past, dtype).isfinite().all()


def steps_of(model: torch.nn.Module, bags: dict, num_steps: int, gradient: float):
    for step in range(num_steps):
        torch.manual_seed(step)
        vectors = vectors_of(model, keyed_bags(bags))
        (sum(part.sum() for part in vectors.values()) * gradient).backward()


def table_of_ones(dtype: str, *, stochastic: bool, rows: int = 64):
    options = TableOptions(dtype=TableDtype(dtype), stochastic_rounding=stochastic)
    model = plain_model([table("t", rows, 32, ["f"], options=options)])
    with torch.no_grad():
        model.bags.embedding_bags["t"].weight.fill_(1.0)
    sgd = SparseOptimizer(name=NAMES.sgd, lr=1.0)
    to_local(model, optimizer=sgd, device=CPU)
    return model


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_steps_are_right_on_average(dtype):
    model = table_of_ones(dtype, stochastic=True)
    bags = {"f": [[i] for i in range(64)]}
    # The spacing below 1.0 is 2^-11 in float16 and 2^-8 in bfloat16: a step of 1e-4
    # is a fifth and a fortieth of it.
    steps_of(model, bags, 20, 1e-4)
    weight = table_states(model)["t"].weight
    assert weight.dtype == DTYPES[dtype]
    # 2,048 independent walks of 20 steps: their mean is within five deviations.
    spacing = 2.0**-11 if dtype == "float16" else 2.0**-8
    deviation = (20 * 1e-4 * spacing / 2048) ** 0.5
    assert abs(float(weight.double().mean()) - (1.0 - 20 * 1e-4)) < 5 * deviation


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_stochastic_rounding_small_steps_are_rounded_to_the_nearest(dtype):
    model = table_of_ones(dtype, stochastic=False)
    steps_of(model, {"f": [[0], [1]]}, 20, 1e-4)
    assert torch.equal(
        table_states(model)["t"].weight, torch.ones(64, 32, dtype=DTYPES[dtype])
    )
    steps_of(model, {"f": [[0], [1]]}, 1, 0.003)
    expected = torch.tensor(1.0 - 0.003).to(DTYPES[dtype])
    assert (table_states(model)["t"].weight[:2] == expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_noise_is_a_function_of_the_seed(dtype):
    def train(num_steps: int) -> torch.Tensor:
        model = table_of_ones(dtype, stochastic=True)
        steps_of(model, {"f": [[0, 3], [1]]}, num_steps, 1e-4)
        return table_states(model)["t"].weight

    assert torch.equal(train(5), train(5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("kind", ["bags", "rows"])
def test_each_optimizer_follows_float32_with_float32_state(dtype, name, kind):
    def train(options: TableOptions) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        make = table if kind == "bags" else row_table
        model = plain_model([make("t", 5, 4, ["f", "g"], options=options)])
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(weight.to(DTYPES[dtype]))
        optimizer = SparseOptimizer(name=name, lr=0.1, weight_decay=0.01)
        to_local(model, optimizer=optimizer, device=CPU)
        steps_of(model, {"f": [[0, 0, 2], []], "g": [[2], [3]]}, 3, 1.0)
        state = table_states(model)["t"]
        assert all(s.dtype == torch.float32 for s in state.optimizer.values())
        return state.weight.float(), state.optimizer

    extra = {"max_norm": 1.5, "gradient": Gradient.dense}
    half = TableOptions(dtype=TableDtype(dtype), stochastic_rounding=False, **extra)
    got, got_state = train(half)
    expected, state = train(TableOptions(**extra))
    # Each step and each rescaling may round by half a spacing of values below 2.
    spacing = torch.finfo(DTYPES[dtype]).eps
    torch.testing.assert_close(got, expected, rtol=0, atol=4 * spacing)
    for key in state:
        torch.testing.assert_close(
            got_state[key], state[key], rtol=0.05, atol=20 * spacing
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_lookups_pool_in_float32(dtype, weighted):
    options = TableOptions(dtype=TableDtype(dtype))
    model = plain_model(
        [table("t", 5, 4, ["f"], options=options)], is_weighted=weighted
    )
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    rows = table_states(model)["t"].weight.float()
    bags = keyed_bags({"f": [[0, 1, 1], [], [4]]}, seed=3 if weighted else None)
    weights = bags.weights() if weighted else torch.ones(4)
    parts = rows[[0, 1, 1, 4]] * weights[:, None]
    expected = torch.stack([parts[:3].sum(0), torch.zeros(4), parts[3]])
    got = model.bags(bags).values()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)
