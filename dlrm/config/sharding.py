"""How a table lies on the processes of a job."""

from __future__ import annotations

from enum import Enum


class Strategy(Enum):
    """Where a table's rows and columns are kept, looked up and trained."""

    table_wise = "table_wise"
    """The whole table on one process."""
    row_wise = "row_wise"
    """Equal ranges of rows, one a process."""
    column_wise = "column_wise"
    """Equal ranges of columns, one a process."""
    data_parallel = "data_parallel"
    """A replica on every process, trained on all processes' examples."""
