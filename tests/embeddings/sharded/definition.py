"""What training a case must give, id by id, in float64, from the definitions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from dlrm.config.features import Pooling
from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.schema import FittedSparse
from dlrm.embeddings.compression import combine_rows, id_rows
from tests.embeddings.oracle import OracleTable
from tests.embeddings.pooling_oracle import pooled_bag
from tests.embeddings.sharded.cases import Case, attention_query


@dataclass
class Defined:
    """See ``jobs.Trained``."""

    vectors: list[np.ndarray]
    tables: dict[str, OracleTable]
    evaluated: np.ndarray


def train_by_definition(case: Case) -> Defined:
    """Train on all rows of every step in turn."""
    tables = _tables(case)
    vectors = []
    for step in range(case.num_steps):
        uses = {name: [] for name in tables}
        found = _vectors(case, step, tables, uses)
        vectors.append(found.detach().numpy())
        halves = case.targets(step)
        target = np.concatenate(
            [halves[half][:rows] for half, rows in enumerate(case.real_rows)]
        )
        (0.5 * (found - torch.from_numpy(target)) ** 2).sum().backward()
        for name, table in tables.items():
            # The limit was on the vectors' gradients.
            table.update(
                dataclasses.replace(_optimizer(case, table), clip_value=None),
                [([row], [1.0], value.grad.numpy()) for row, value in uses[name]],
            )
    unused = {name: [] for name in tables}
    evaluated = _vectors(case, 0, tables, unused).detach().numpy()
    return Defined(vectors, tables, evaluated)


Uses = dict[str, list[tuple[int, torch.Tensor]]]


def _tables(case: Case) -> dict[str, OracleTable]:
    return {
        name: OracleTable(weight.double().numpy(), "sum", case.schema.options(name))
        for name, weight in case.start().items()
    }


def _vectors(
    case: Case, step: int, tables: dict[str, OracleTable], uses: Uses
) -> torch.Tensor:
    """Return the vectors of all real rows; note every looked-up row's value."""
    schema = case.schema
    bags = [bag for rows in case.rows(step) for bag in case.bags(rows)]
    return torch.stack(
        [
            torch.cat(
                [
                    _vector(case, feature, *bag[feature.name], tables, uses)
                    for feature in schema.sparse
                ]
            )
            for bag in bags
        ]
    )


def _vector(
    case: Case,
    feature: FittedSparse,
    ids: list[int],
    weights: list[float],
    tables: dict[str, OracleTable],
    uses: Uses,
) -> torch.Tensor:
    table, options = tables[feature.table], case.schema.options(feature.table)
    if options.padding_idx is not None:
        padding = options.padding_idx % feature.num_embeddings
        kept = [k for k, i in enumerate(ids) if i != padding]
        ids, weights = [ids[k] for k in kept], [weights[k] for k in kept]
    how = id_rows(options.compression, num_ids=feature.num_embeddings)
    rows = ids
    if how is not None:
        rows = how.rows(torch.tensor(ids, dtype=torch.int64)).flatten().tolist()
    values = [torch.tensor(table.seen(row), requires_grad=True) for row in rows]
    uses[feature.table] += list(zip(rows, values, strict=True))
    stacked = torch.zeros(0, case.embedding_dim, dtype=torch.float64)
    if values:
        stacked = torch.stack(values)
        stacked = stacked if how is None else combine_rows(stacked, how)
    query = None
    if feature.pooling is Pooling.attention:
        query = attention_query(case.embedding_dim).double()
    factors = torch.tensor(weights, dtype=torch.float64)
    vector = pooled_bag(stacked, factors, feature.pooling, query)
    limit = _optimizer(case, table).clip_value
    if limit is not None and vector.requires_grad:
        vector.register_hook(lambda gradient: gradient.clamp(-limit, limit))
    return vector


def _optimizer(case: Case, table: OracleTable) -> SparseOptimizer:
    return table.options.optimizer.resolved(case.optimizer)
