"""EmbeddingBag and Embedding against torch's own, and against the definitions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.features import Pooling
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.bag import EmbeddingBag
from dlrm.embeddings.embedding import Embedding
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from tests.embeddings.feature_cases import leaf
from tests.embeddings.oracle import CPU
from tests.embeddings.pooling_oracle import pooled
from tests.embeddings.schemas import SGD, feature, schema, weight_of
from tests.embeddings.test_feature_properties import (
    EVERY_RUN,
    NUM_DERIVED_CASES,
    NUM_LOCAL_CASES,
    NUM_PLAIN_CASES,
)

NUM_TORCH_CASES = 700
NUM_LOCAL_BAG_CASES = 300
"""These two compare with ``torch.nn.EmbeddingBag`` itself."""
NUM_OTHER_CASES = 300
NUM_EMBEDDING_CASES = 200


def test_a_thousand_cases_are_torchs_and_another_thousand_the_definitions():
    assert NUM_TORCH_CASES + NUM_LOCAL_BAG_CASES >= 1_000
    features = NUM_PLAIN_CASES + NUM_DERIVED_CASES + NUM_LOCAL_CASES
    assert NUM_OTHER_CASES + NUM_EMBEDDING_CASES + features >= 1_000


@dataclass
class Case:
    """A table, bags over it with weights, and options that torch has, too."""

    weight: torch.Tensor
    bags: list[list[int]]
    factors: torch.Tensor
    """Weights of the ids."""
    options: dict[str, Any]
    seed: int
    form: str

    @property
    def ids(self) -> torch.Tensor:
        return torch.tensor([i for bag in self.bags for i in bag], dtype=torch.int64)

    @property
    def offsets(self) -> torch.Tensor:
        starts = torch.tensor([0, *map(len, self.bags)]).cumsum(0)
        return starts if self.options["include_last_offset"] else starts[:-1]

    def inputs(self, weights: torch.Tensor | None) -> tuple[Any, Any, Any]:
        """Return ids, offsets and weights in the case's form."""
        if self.form == "lists":
            return self.bags, None, weights
        if self.form == "padded":
            rows = torch.tensor(self.bags).reshape(len(self.bags), -1)
            return rows, None, None if weights is None else weights.view_as(rows)
        return self.ids, self.offsets, weights


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows, width = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    num_bags = draw(st.integers(1, 4))
    form = draw(st.sampled_from(["offsets", "lists", "padded"]))
    ids = st.integers(0, rows - 1)
    low, high = (4, 4) if form == "padded" else (0, 6)
    bag = st.lists(ids, min_size=low, max_size=high)
    bags = draw(st.lists(bag, min_size=num_bags, max_size=num_bags))
    options = {
        "padding_idx": draw(st.none() | st.integers(-rows, rows - 1)),
        "max_norm": draw(st.sampled_from([None, 0.5, 2.0])),
        "norm_type": draw(st.sampled_from([1.0, 2.0, 3.0])),
        "scale_grad_by_freq": draw(st.booleans()),
        "sparse": draw(st.booleans()),
        "include_last_offset": draw(st.booleans()),
    }
    seed, ties = draw(st.integers(0, 2**31)), draw(st.booleans())
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=random, dtype=torch.float64)
    if ties:
        weight = (2 * weight).round() / 2
    if options["padding_idx"] is not None:
        weight[options["padding_idx"]] = 0
    factors = torch.randint(-8, 9, (sum(map(len, bags)),), generator=random) / 4
    return Case(weight, bags, factors.double(), options, seed, form)


def drawn_like(vectors: torch.Tensor, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(vectors.shape, generator=random, dtype=vectors.dtype)


def dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def torch_bag(case: Case, mode: str) -> nn.EmbeddingBag:
    """Return torch's module, its gradient dense where it refuses a sparse one.

    On a CPU torch 2.13 divides a row's gradient by the uses of another row, so that
    frequencies are left to ``by_frequency``.
    """
    options = {**case.options, "scale_grad_by_freq": False}
    options["sparse"] &= mode != "max"
    rows, width = case.weight.shape
    return nn.EmbeddingBag(
        rows, width, mode=mode, _weight=case.weight.clone(), **options
    )


@settings(EVERY_RUN, max_examples=NUM_TORCH_CASES)
@given(
    case=cases(), mode=st.sampled_from(["sum", "mean", "max"]), weighted=st.booleans()
)
def test_a_bag_is_torchs_where_torch_has_one(case: Case, mode: str, weighted: bool):
    theirs = torch_bag(case, mode)
    ours = EmbeddingBag(
        *case.weight.shape, mode=mode, _weight=case.weight.clone(), **case.options
    )
    own = case.factors.clone().requires_grad_() if weighted and mode == "sum" else None
    their = None if own is None else case.factors.clone().requires_grad_()
    vectors = ours(*case.inputs(own))
    expected = theirs(case.ids, case.offsets, their)
    close(vectors, expected)
    # Rescaled rows are stored.
    close(ours.weight, theirs.weight)
    factors = drawn_like(vectors, case.seed)
    (vectors * factors).sum().backward()
    (expected * factors).sum().backward()
    close(dense(ours.weight.grad), by_frequency(case, dense(theirs.weight.grad)))
    assert ours.weight.grad.is_sparse or not case.options["sparse"]
    if own is not None and case.ids.numel():
        keep = (
            torch.ones_like(own)
            if theirs.padding_idx is None
            else (case.ids != theirs.padding_idx)
        )
        close(own.grad, their.grad * keep)


@settings(EVERY_RUN, max_examples=NUM_LOCAL_BAG_CASES)
@given(
    case=cases(), mode=st.sampled_from(["sum", "mean", "max"]), weighted=st.booleans()
)
def test_a_fused_local_table_is_torchs_after_one_step(
    case: Case, mode: str, weighted: bool
):
    weighted &= mode == "sum"
    rows, width = case.weight.shape
    shared = ("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
    options = TableOptions(**{name: case.options[name] for name in shared})
    one = feature(
        "f", width=width, pooling=Pooling(mode), weighted=weighted, num_embeddings=rows
    )
    ours = FeatureEmbeddings(schema(one, tables={"f": options}))
    sgd = dataclasses.replace(SGD, lr=1.0)
    to_local(ours, optimizer=sgd, device=CPU)
    weight_of(ours, "f").copy_(case.weight)
    theirs = torch_bag(case, mode)
    theirs.weight.data.copy_(case.weight.float())

    bags = KeyedJaggedTensor(
        keys=["f"],
        values=case.ids,
        lengths=torch.tensor([len(bag) for bag in case.bags]),
        weights=case.factors.float() if weighted else None,
    )
    (vectors,) = ours({group: bags for group in ours.collections})
    expected = theirs(case.ids, case.offsets, case.factors if weighted else None)
    nearly(vectors, expected)
    factors = drawn_like(expected, case.seed)
    (vectors * factors).sum().backward()
    (expected * factors).sum().backward()
    gradient = by_frequency(case, dense(theirs.weight.grad))
    nearly(weight_of(ours, "f"), theirs.weight - gradient)


def nearly(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=2e-5)


@settings(EVERY_RUN, max_examples=NUM_OTHER_CASES)
@given(case=cases(), pooling=st.sampled_from(Pooling), weighted=st.booleans())
def test_a_bag_is_the_definition_where_torch_refuses(
    case: Case, pooling: Pooling, weighted: bool
):
    if pooling is Pooling.attention:
        case.factors.abs_()
    ours = EmbeddingBag(
        *case.weight.shape, mode=pooling, _weight=case.weight.clone(), **case.options
    )
    if ours.query is not None:
        nn.init.normal_(ours.query, generator=torch.Generator().manual_seed(case.seed))
    own = case.factors.clone().requires_grad_() if weighted else None
    vectors = ours(*case.inputs(own))

    weight, their = leaf(rescaled(case)), leaf(case.factors)
    query = None if ours.query is None else leaf(ours.query)
    bags, first = [], 0
    for ids in case.bags:
        kept = [k for k, i in enumerate(ids) if i != ours.options.padding_idx]
        factors = their[[first + k for k in kept]] if weighted else None
        bags.append(([ids[k] for k in kept], factors))
        first += len(ids)
    expected = pooled(weight, bags, pooling, query)
    close(vectors, expected)
    cotangents = drawn_like(vectors, case.seed)
    (vectors * cotangents).sum().backward()
    (expected * cotangents).sum().backward()
    close(dense(ours.weight.grad), by_frequency(case, weight.grad))
    if weighted:
        close(own.grad, their.grad)
    if query is not None:
        close(ours.query.grad, query.grad)


def by_frequency(case: Case, gradient: torch.Tensor) -> torch.Tensor:
    """Return the gradient with each row divided by its uses, where the case says so."""
    if not case.options["scale_grad_by_freq"]:
        return gradient
    uses = torch.bincount(case.ids, minlength=len(gradient)).clamp(min=1)
    return gradient / uses[:, None]


def rescaled(case: Case) -> torch.Tensor:
    """Return the table with the rows in use brought to ``max_norm``."""
    weight, limit = case.weight.clone(), case.options["max_norm"]
    for i in set(case.ids.tolist()) if limit else ():
        norm = float(weight[i].norm(case.options["norm_type"]))
        if norm > limit:
            weight[i] *= limit / (norm + 1e-7)
    return weight


@settings(EVERY_RUN, max_examples=NUM_EMBEDDING_CASES)
@given(case=cases(), columns=st.integers(1, 3))
def test_an_embedding_is_torchs(case: Case, columns: int):
    options = dict(case.options)
    options.pop("include_last_offset")
    ours = Embedding(*case.weight.shape, _weight=case.weight.clone(), **options)
    options["sparse"] &= not options["scale_grad_by_freq"]
    theirs = nn.Embedding(*case.weight.shape, _weight=case.weight.clone(), **options)
    ids = case.ids[: case.ids.numel() // columns * columns].view(-1, columns)
    rows, expected = ours(ids), theirs(ids)
    assert rows.shape == (*ids.shape, case.weight.shape[1])
    close(rows, expected)
    close(ours.weight, theirs.weight)
    factors = drawn_like(rows, case.seed)
    (rows * factors).sum().backward()
    (expected * factors).sum().backward()
    close(dense(ours.weight.grad), dense(theirs.weight.grad))
    assert ours.weight.grad.is_sparse or not case.options["sparse"]
