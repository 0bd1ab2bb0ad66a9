"""What the accounting has to know of each table of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.kernel_options import TableConfig, table_dtype
from dlrm.embeddings.names import table_name
from dlrm.embeddings.row_updates import STATE_IS_ROWWISE
from dlrm.embeddings.table_config import options_of

STATE_BYTES = 4
"""Of one number of optimizer state, which is float32 whatever the rows' type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableLoad:
    """One table's size, its optimizer state and how it is looked up."""

    config: TableConfig
    weight_bytes: int
    """Of one number of a row."""
    state_bytes_per_value: int
    """Optimizer state beside each number of a row."""
    state_bytes_per_row: int
    """Optimizer state and counters beside each row."""
    ids_per_example: float
    """Rows looked up for one example, over all features of the table."""
    is_weighted: bool
    """Whether ids travel with weights."""
    is_pooled: bool
    """Whether a bag gives one vector; else every id does."""

    @property
    def name(self) -> str:
        """The table's name, as a plan has it."""
        return table_name(self.config.name)

    @property
    def num_rows(self) -> int:
        """Rows of the whole table."""
        return int(self.config.num_embeddings)

    @property
    def width(self) -> int:
        """Columns of the whole table."""
        return int(self.config.embedding_dim)

    @property
    def num_features(self) -> int:
        """Features that read the table: bags of one example."""
        return len(self.config.feature_names)

    @property
    def vectors_per_example(self) -> float:
        """Vectors that leave the lookup for one example."""
        return self.num_features if self.is_pooled else self.ids_per_example

    def weights(self, num_rows: int, num_columns: int) -> int:
        """Return the bytes of the weights of a part."""
        return num_rows * num_columns * self.weight_bytes

    def state(self, num_rows: int, num_columns: int) -> int:
        """Return the bytes of the optimizer state and counters of a part."""
        per_row = num_columns * self.state_bytes_per_value + self.state_bytes_per_row
        return num_rows * per_row

    @property
    def total(self) -> int:
        """Bytes of the whole table with its state."""
        size = self.num_rows, self.width
        return self.weights(*size) + self.state(*size)


def table_loads(
    model: nn.Module,
    optimizer: SparseOptimizer,
    average_lengths: Mapping[str, float],
) -> dict[str, TableLoad]:
    """Return the loads of all tables of ``model`` by name, in the model's order.

    Args:
        model: Holds torchrec's plain collections.
        optimizer: Of tables without their own.
        average_lengths: Ids a row of features, by name; 1 where not given.
    """
    loads: dict[str, TableLoad] = {}
    for module in model.modules():
        if isinstance(module, EmbeddingBagCollection):
            for config in module.embedding_bag_configs():
                load = _load(config, optimizer, average_lengths, module.is_weighted())
                loads[load.name] = load
        elif isinstance(module, EmbeddingCollection):
            for config in module.embedding_configs():
                # Weights of single rows stay where the batch is.
                load = _load(config, optimizer, average_lengths, False)
                loads[load.name] = load
    return loads


def _load(
    config: TableConfig,
    optimizer: SparseOptimizer,
    average_lengths: Mapping[str, float],
    is_weighted: bool,
) -> TableLoad:
    options = options_of(config)
    name = options.optimizer.resolved(optimizer).name
    states = [] if options.frozen else list(STATE_IS_ROWWISE[name].values())
    counters = 4 if options.admit_after else 0
    ids = sum(average_lengths.get(feature, 1.0) for feature in config.feature_names)
    return TableLoad(
        config=config,
        weight_bytes=table_dtype(config).itemsize,
        state_bytes_per_value=STATE_BYTES * states.count(False),
        state_bytes_per_row=STATE_BYTES * states.count(True) + counters,
        ids_per_example=ids * options.compression.rows_per_id,
        is_weighted=is_weighted,
        is_pooled=isinstance(config, EmbeddingBagConfig),
    )
