"""What a job trains: features and options of tables, batches, a loss."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableOptions
from dlrm.data.storage.rows import EncodedRows
from dlrm.distributed.plan import Plan
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.kernel_options import TableConfig, table_dtype
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.sharded.swap import collection_configs
from dlrm.embeddings.tables import table_configs

ROWS_PER_RANK = 6


@dataclass(frozen=True)
class Case:
    """A model of a few tables, and how it is trained. Travels to the ranks."""

    pooling: Pooling = Pooling.sum
    weighted: bool = False
    options: TableOptions = field(default_factory=TableOptions)
    optimizer: SparseOptimizer = field(
        default_factory=lambda: SparseOptimizer(name=SparseOptimizerName.sgd, lr=0.02)
    )
    embedding_dim: int = 4
    num_embeddings: int = 11
    num_steps: int = 3
    shared: bool = True
    """Whether two features read the table under test."""
    real_rows: tuple[int, int] = (ROWS_PER_RANK, ROWS_PER_RANK)
    """Rows of each half of a batch that are no padding."""
    max_length: int = 4
    """Ids of the longest bags."""
    given: bool = False
    """Whether the tables start from rows given to them, not from initial values."""
    form: str = "batch"
    """What the bags of table a come in: see ``forms.FORMS``."""

    @property
    def schema(self) -> FeatureSchema:
        """Features a and b of table a, a plain multi-hot c, a one-hot d.

        As wide as each other: pooling by max and attention has a collection a width.
        """
        names = ["a", "b"] if self.shared else ["a"]
        tested = [self._feature(name, "a", self.pooling) for name in names]
        plain = [self._feature("c", "c", Pooling.sum, num_embeddings=7)]
        one_hot = [
            FittedSparse(
                name="d",
                feature=SparseFeature(embedding_dim=self.embedding_dim),
                table="d",
                num_embeddings=5,
            )
        ]
        return FeatureSchema(
            name="case",
            label="label",
            dense=(),
            sparse=(*tested, *plain, *one_hot),
            table_options={"a": self.options},
        )

    def _feature(
        self, name: str, table: str, pooling: Pooling, num_embeddings: int | None = None
    ) -> FittedSparse:
        weighted = self.weighted and table == "a"
        return FittedSparse(
            name=name,
            feature=SparseFeature(
                multi_hot=True,
                embedding_dim=self.embedding_dim,
                pooling=pooling,
                weight_column=f"{name}_weight" if weighted else None,
            ),
            table=table,
            num_embeddings=num_embeddings or self.num_embeddings,
        )

    def rows(self, step: int) -> list[EncodedRows]:
        """Return the real rows of each half of a step's batch."""
        random = np.random.default_rng(step)
        return [self._rows(random, count) for count in self.real_rows]

    def _rows(self, random: np.random.Generator, count: int) -> EncodedRows:
        schema = self.schema
        sizes = [feature.num_embeddings for feature in schema.multi_hot]
        lengths = random.integers(
            0, self.max_length + 1, (count, len(sizes)), dtype=np.int32
        )
        bags = [
            random.integers(0, size, length, dtype=np.int32)
            for row in lengths
            for size, length in zip(sizes, row, strict=True)
        ]
        values = np.concatenate([np.zeros(0, dtype=np.int32), *bags])
        weights = random.uniform(0.5, 2.0, values.size).astype(np.float32)
        return EncodedRows(
            labels=np.zeros(count, dtype=np.float32),
            weights=np.ones(count, dtype=np.float32),
            dense=np.zeros((count, 0), dtype=np.float32),
            one_hot=random.integers(0, 5, (count, 1), dtype=np.int32),
            bag_lengths=lengths,
            bag_values=values,
            bag_weights=weights if self.weighted else None,
        )

    def bags(self, rows: EncodedRows) -> list[dict[str, tuple[list[int], list[float]]]]:
        """Return each row's ids and weights by feature."""
        names = [feature.name for feature in self.schema.multi_hot]
        weighted = {f.name for f in self.schema.sparse if f.weighted}
        ends = rows.bag_lengths.cumsum().reshape(rows.bag_lengths.shape)
        found = []
        places = zip(rows.bag_lengths, ends, rows.one_hot[:, 0], strict=True)
        for lengths, stops, one in places:
            bags = {"d": ([int(one)], [1.0])}
            for name, length, stop in zip(names, lengths, stops, strict=True):
                place = slice(stop - length, stop)
                weights = [1.0] * int(length)
                if name in weighted and rows.bag_weights is not None:
                    weights = rows.bag_weights[place].tolist()
                bags[name] = (rows.bag_values[place].tolist(), weights)
            found.append(bags)
        return found

    def start(self) -> dict[str, torch.Tensor]:
        """Return the rows that the tables start from."""
        random = torch.Generator().manual_seed(7)
        return {
            config.name: torch.randn(
                config.num_embeddings, config.embedding_dim, generator=random
            )
            if self.given
            else _initial(config)
            for configs in table_configs(self.schema).values()
            for config in configs
        }

    def targets(self, step: int) -> np.ndarray:
        """Return what the vectors of both halves should be, [2, B, sum of widths]."""
        width = self.embedding_dim * len(self.schema.sparse)
        random = np.random.default_rng(100 + step)
        return random.normal(size=(2, ROWS_PER_RANK, width)).astype(np.float32)


def initial_values() -> InitialValues:
    return InitialValues(
        seed=1,
        default=EmbeddingInit(name=InitName.normal, scale=0.5),
        row_keys=lambda table: np.arange(100, dtype=np.uint64),
    )


def _initial(config: TableConfig) -> torch.Tensor:
    shape = (config.num_embeddings, config.embedding_dim)
    weight = torch.zeros(shape, dtype=table_dtype(config))
    initial_values().fill(config, weight)
    return weight


def attention_query(width: int) -> torch.Tensor:
    """Return a query that tells rows apart, unlike the zeros it starts at."""
    return torch.linspace(-1.0, 2.0, width)


def strategies(strategy: Strategy) -> dict[str, Strategy]:
    """Return ``strategy`` for the table under test; the others lie otherwise."""
    others = {"c": Strategy.table_wise, "d": Strategy.data_parallel}
    if strategy in (Strategy.table_wise, Strategy.data_parallel):
        others = {"c": Strategy.row_wise, "d": strategy}
    return {"a": strategy, **others}


def place(
    model: nn.Module,
    chosen: dict[str, Strategy],
    world_size: int,
    default: Strategy = Strategy.table_wise,
    ranks_per_node: int | None = None,
    **num_column_shards: int,
) -> Plan:
    """Return a plan of the model's tables; nodes of up to two ranks where not given."""
    return plan_by_strategy(
        collection_configs(model),
        chosen,
        default,
        world_size=world_size,
        ranks_per_node=ranks_per_node or min(world_size, 2),
        num_column_shards=num_column_shards,
    )
