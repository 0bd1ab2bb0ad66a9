"""What each feature costs: the bytes of the tables it reads, and its lookups a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.data.storage.feature_values import FeaturePlace
from dlrm.data.storage.rows import EncodedRows
from dlrm.embeddings.kernel_options import table_dtype
from dlrm.embeddings.table_config import options_of
from dlrm.models import build_model, model_config
from dlrm.planning.table_loads import TableLoad, table_loads
from dlrm.run import Run


@dataclass(frozen=True, slots=True)
class TableCost:
    """One table of the model, and who reads it."""

    table: str
    rows: int
    dim: int
    dtype: str
    weight_bytes: int
    state_bytes: int
    """Optimizer state and counters, which training keeps beside the weights."""
    features: tuple[str, ...]

    @property
    def total(self) -> int:
        """Bytes of the weights and of the state."""
        return self.weight_bytes + self.state_bytes

    def record(self) -> dict[str, object]:
        """Return it as JSON data."""
        return dataclasses.asdict(self) | {"features": list(self.features)}


@dataclass(frozen=True, slots=True)
class FeatureCost:
    """One feature's tables and lookups."""

    tables: Sequence[TableCost]
    lookups: float
    """Rows of tables that are read for one row of data."""

    @property
    def total(self) -> int:
        """Bytes of all tables that it reads."""
        return sum(table.total for table in self.tables)

    @property
    def freed(self) -> int:
        """Bytes of the tables that no other feature reads: gone if it goes."""
        return sum(table.total for table in self.tables if len(table.features) == 1)


def model_loads(run: Run, average_lengths: Mapping[str, float]) -> dict[str, TableLoad]:
    """Return the loads of all tables of a run's model, by name.

    Tables stay on the meta device: nothing of their size is made.
    """
    model = build_model(model_config(run.config.model), run.schema)
    return table_loads(model, run.config.optimizer.sparse, average_lengths)


def table_cost(load: TableLoad) -> TableCost:
    """Return what one table costs."""
    size = load.num_rows, load.width
    return TableCost(
        table=load.name,
        rows=load.num_rows,
        dim=load.width,
        dtype=str(table_dtype(load.config)).removeprefix("torch."),
        weight_bytes=load.weights(*size),
        state_bytes=load.state(*size),
        features=tuple(load.config.feature_names),
    )


def feature_costs(
    run: Run, places: Sequence[FeaturePlace], rows: EncodedRows
) -> dict[str, FeatureCost]:
    """Return each feature's cost; lookups are means over ``rows``."""
    lengths = {place.name: _ids_a_row(place, rows) for place in places}
    loads = model_loads(run, lengths)
    costs: dict[str, FeatureCost] = {}
    for place in places:
        read = [
            load
            for load in loads.values()
            if place.dense is None and place.name in load.config.feature_names
        ]
        rows_an_id = [_rows_an_id(load) for load in read]
        costs[place.name] = FeatureCost(
            [table_cost(load) for load in read], lengths[place.name] * sum(rows_an_id)
        )
    return costs


def _ids_a_row(place: FeaturePlace, rows: EncodedRows) -> float:
    if place.dense is not None:
        return 0.0
    if place.bag is None:
        return 1.0
    return float(np.mean(rows.bag_lengths[:, place.bag], dtype=np.float64))


def _rows_an_id(load: TableLoad) -> int:
    return options_of(load.config).compression.rows_per_id
