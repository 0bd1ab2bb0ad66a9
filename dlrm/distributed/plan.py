"""Which process keeps which part of each table."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.sharding import Storage, Strategy


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a table on one process."""

    rank: int
    first_row: int
    num_rows: int
    first_column: int
    num_columns: int

    @property
    def rows(self) -> slice:
        """The part's rows of the table."""
        return slice(self.first_row, self.first_row + self.num_rows)

    @property
    def columns(self) -> slice:
        """The part's columns of the table."""
        return slice(self.first_column, self.first_column + self.num_columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class TablePlan:
    """How one table lies on the processes."""

    strategy: Strategy
    parts: tuple[Part, ...]
    """In the order torchrec lists them: by columns, then by rows. A process may keep
    several ranges of columns; those of a data-parallel table are whole replicas."""
    storage: Storage = Storage.fused
    cache_load_factor: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How all tables of a model lie on the processes of a job."""

    world_size: int
    ranks_per_node: int
    tables: dict[str, TablePlan]
    """By the table's name (``dlrm.embeddings.names.table_name``)."""
