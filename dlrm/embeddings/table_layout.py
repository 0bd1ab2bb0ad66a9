"""Where tables lie in one matrix, one below another.

Shape suffixes: B = batch, F = features, N = ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from dlrm.embeddings.bags import table_of_feature
from dlrm.embeddings.flat_bags import FlatBags, flatten, flatten_rows
from dlrm.embeddings.kernel_options import TableConfig, padding_row


class TableLayout:
    """Turns ids of tables into rows of the matrix that holds the tables."""

    def __init__(self, tables: Sequence[TableConfig], device: torch.device) -> None:
        """Stack the tables in their order.

        Raises:
            ConfigError: A table lacks its padding row.
        """
        sizes = [table.num_embeddings for table in tables]
        self._starts = list(itertools.accumulate(sizes, initial=0))
        self.num_rows = self._starts[-1]
        """Of all tables."""
        padding = [padding_row(table) for table in tables]
        places = zip(self._starts, padding, strict=False)
        self.padding_rows = [start + row for start, row in places if row is not None]
        """In the matrix."""
        owners = table_of_feature(tables)
        self.num_features = len(owners)
        id_type = torch.int32 if self.num_rows < 2**31 else torch.int64
        self._of_features = {
            "first_row": torch.tensor(
                [self._starts[i] for i in owners], dtype=id_type, device=device
            ),
            "num_rows": torch.tensor(
                [sizes[i] for i in owners], dtype=id_type, device=device
            ),
        }

    def rows(self, index: int) -> slice:
        """Return where table ``index`` lies."""
        return slice(self._starts[index], self._starts[index + 1])

    def flatten(
        self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor | None
    ) -> FlatBags:
        """Return bags of rows, example by example: see ``flat_bags.flatten``."""
        return flatten(ids, offsets, weights, **self._of_features)

    def flatten_rows(self, ids: torch.Tensor, offsets: torch.Tensor) -> FlatBags:
        """Return rows in the order of ``ids``: see ``flat_bags.flatten_rows``."""
        return flatten_rows(ids, offsets, **self._of_features)
