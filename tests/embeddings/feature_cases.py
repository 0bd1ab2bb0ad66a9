"""Random schemas with batches for them, and their vectors by float64 loops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.table_options import (
    Combine,
    Compression,
    CompressionMethod,
    TableOptions,
)
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.names import module_name
from tests.embeddings.pooling_oracle import pooled
from tests.embeddings.schemas import feature, schema, weight_of

COMPRESSIONS = [
    Compression(),
    Compression(method=CompressionMethod.quotient_remainder, divisor=3),
    Compression(method=CompressionMethod.quotient_remainder, combine=Combine.product),
    Compression(method=CompressionMethod.multi_probe, num_rows=5, num_probes=3),
    Compression(
        method=CompressionMethod.multi_probe, num_rows=4, combine=Combine.product
    ),
]


@dataclass
class Case:
    """A schema, one batch for it, and what a random table is made of."""

    schema: FeatureSchema
    bags: dict[str, list[list[int]]]
    weights: dict[str, torch.Tensor]
    """One an id, of weighted features, in float64."""
    num_bags: int
    seed: int
    ties: bool


@st.composite
def cases(draw: st.DrawFn, *, trained: bool = False) -> Case:
    """Return up to four features over up to two tables, and a batch.

    Options that only a training collection reads are drawn where it is ``trained``.
    """
    num_bags = draw(st.integers(1, 3))
    names = ["a", "items", "c", "d"][: draw(st.integers(1, 4))]
    features, tables = [], {}
    for table in ("s", "t"):
        width, rows = draw(st.sampled_from([1, 3, 4, 8])), draw(st.integers(1, 9))
        weighted = draw(st.booleans())
        options = TableOptions(compression=draw(st.sampled_from(COMPRESSIONS)))
        if trained:
            options.max_norm = draw(st.sampled_from([None, 0.5, 1.5]))
            options.norm_type = draw(st.sampled_from([1.0, 2.0]))
            options.scale_grad_by_freq = draw(st.booleans())
        if options.compression.method is CompressionMethod.none and draw(st.booleans()):
            options.padding_idx = draw(st.integers(-rows, rows - 1))
        tables[table] = options
        for name in names[::2] if table == "s" else names[1::2]:
            one = feature(
                name,
                width=width,
                table=table,
                pooling=draw(st.sampled_from(Pooling)),
                multi_hot=weighted or draw(st.booleans()),
                weighted=weighted,
                num_embeddings=rows,
            )
            features.append(one)
    features = sorted(features, key=lambda one: names.index(one.name))
    seed = draw(st.integers(0, 2**31))
    bags, weights = {}, {}
    for one in features:
        ids = st.integers(0, one.num_embeddings - 1)
        longest = 5 if one.feature.multi_hot else 1
        bag = st.lists(ids, max_size=longest)
        bags[one.name] = draw(st.lists(bag, min_size=num_bags, max_size=num_bags))
        if one.weighted:
            num_ids = sum(map(len, bags[one.name]))
            weights[one.name] = random_weights(
                num_ids, positive=one.pooling is Pooling.attention, seed=seed
            )
    of = schema(*features, tables=tables)
    return Case(of, bags, weights, num_bags, seed, ties=draw(st.booleans()))


def random_weights(num: int, *, positive: bool, seed: int) -> torch.Tensor:
    """Return multiples of 1/4 with zeros among them: their products are exact."""
    random = torch.Generator().manual_seed(seed)
    low = 0 if positive else -8
    return torch.randint(low, 9, (num,), generator=random).double() / 4


def fill(embeddings: FeatureEmbeddings, case: Case) -> None:
    """Give all tables and queries values, few different ones where ties are wanted."""
    random = torch.Generator().manual_seed(case.seed)
    with torch.no_grad():
        for values in embeddings.state_dict().values():
            drawn = torch.randn(values.shape, generator=random)
            steps = 2 if case.ties else 64
            values.copy_((drawn * steps).round() / steps)


def batch_of(
    case: Case, *, learned_weights: bool = True
) -> dict[str, KeyedJaggedTensor]:
    """Return the batch in its groups; float32 weights may want a gradient."""
    sparse = {}
    for group, members in case.schema.groups.items():
        bags = [bag for one in members for bag in case.bags[one.name]]
        weights = None
        if members[0].weighted:
            parts = [case.weights[one.name] for one in members]
            weights = torch.cat(parts).float().requires_grad_(learned_weights)
        sparse[group] = KeyedJaggedTensor(
            keys=[one.name for one in members],
            values=torch.tensor([i for bag in bags for i in bag], dtype=torch.int32),
            lengths=torch.tensor([len(bag) for bag in bags], dtype=torch.int32),
            weights=weights,
        )
    return sparse


@dataclass
class Expected:
    """Float64 leaves and the vectors that the definitions make of them."""

    tables: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]
    queries: dict[str, torch.Tensor]
    vectors: list[torch.Tensor]


def expected_of(case: Case, embeddings: FeatureEmbeddings) -> Expected:
    """Compute every feature's vectors from copies of the embeddings' values."""
    tables = {
        table: leaf(_rescaled(case, table, weight_of(embeddings, table)))
        for table in case.schema.tables
    }
    weights = {name: leaf(values) for name, values in case.weights.items()}
    queries = {
        one.name: leaf(embeddings.queries[module_name(one.name)].query)
        for one in case.schema.sparse
        if one.pooling is Pooling.attention
    }
    vectors = []
    for one in case.schema.sparse:
        table, own = _id_table(case.schema, one, tables), weights.get(one.name)
        bags, first = [], 0
        for ids in case.bags[one.name]:
            kept = [k for k, i in enumerate(ids) if i != _padding(case.schema, one)]
            factors = None if own is None else own[[first + k for k in kept]]
            bags.append(([ids[k] for k in kept], factors))
            first += len(ids)
        vectors.append(pooled(table, bags, one.pooling, queries.get(one.name)))
    return Expected(tables, weights, queries, vectors)


def leaf(values: torch.Tensor) -> torch.Tensor:
    """Return a float64 copy that gathers gradients; zeros where none arrive."""
    copy = values.detach().double().clone().requires_grad_()
    copy.grad = torch.zeros_like(copy)
    return copy


def row_uses(case: Case, table: str) -> list[int]:
    """Return the table's rows that the batch looks up, as often as it does."""
    how = case.schema.options(table).compression
    return [
        row
        for one in case.schema.tables[table]
        for ids in case.bags[one.name]
        for i in ids
        if i != _padding(case.schema, one)
        for row in _rows_of(i, one.num_embeddings, how)
    ]


def _rescaled(case: Case, table: str, weight: torch.Tensor) -> torch.Tensor:
    """Return the rows with those in use brought to ``max_norm``."""
    options, rows = case.schema.options(table), weight.detach().double().clone()
    for i in set(row_uses(case, table)) if options.max_norm else ():
        norm = rows[i].norm(options.norm_type)
        if norm > options.max_norm:
            rows[i] *= options.max_norm / (norm + 1e-7)
    return rows


def _padding(of: FeatureSchema, one: FittedSparse) -> int | None:
    padding = of.options(one.table).padding_idx
    return None if padding is None else padding % one.num_embeddings


def _id_table(
    of: FeatureSchema, one: FittedSparse, tables: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return one row an id, made of the rows that a compressed table has."""
    table, how = tables[one.table], of.options(one.table).compression
    ids = []
    for i in range(one.num_embeddings):
        rows = torch.stack([table[r] for r in _rows_of(i, one.num_embeddings, how)])
        ids.append(rows.prod(0) if how.combine is Combine.product else rows.sum(0))
    return torch.stack(ids)


def _rows_of(i: int, num_ids: int, how: Compression) -> list[int]:
    if how.method is CompressionMethod.none:
        return [i]
    if how.method is CompressionMethod.quotient_remainder:
        divisor = how.divisor_for(num_ids)
        return [i // divisor, -(-num_ids // divisor) + i % divisor]
    assert how.num_rows is not None
    return [
        _mix((_mix(i) + probe * 0x9E3779B9) % 2**32) % how.num_rows
        for probe in range(how.num_probes)
    ]


def _mix(word: int) -> int:
    word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
    word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
    return word ^ word >> 16
