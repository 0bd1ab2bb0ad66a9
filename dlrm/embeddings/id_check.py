"""Ids that their table does not have: found before they reach another table's rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.errors import BadIdError
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name


def refuse_bad_ids(ids: torch.Tensor, num_rows: torch.Tensor) -> None:
    """Check that every id is in [0, its table's rows).

    Args:
        ids: Any shape.
        num_rows: Rows of each id's table; fits the shape of ``ids``.

    Raises:
        IndexError: An id is out of range; ``find_bad_id`` says which.
    """
    if ids.numel() and (int(ids.min()) < 0 or bool((ids >= num_rows).any())):
        raise IndexError("An id is out of its table's range.")


def find_bad_id(
    bags: KeyedJaggedTensor, tables: Sequence[TableConfig]
) -> BadIdError | None:
    """Return the error that names the first id out of range, if there is one."""
    if bags.values().numel() == 0:
        return None
    table_of = {name: table for table in tables for name in table.feature_names}
    for name, feature in bags.to_dict().items():
        table = table_of.get(name)
        if table is None:
            continue
        ids = feature.values()
        bad = ((ids < 0) | (ids >= table.num_embeddings)).nonzero()
        if bad.numel() == 0:
            continue
        place = int(bad[0])
        last = table.num_embeddings - 1
        row = int((feature.lengths().cumsum(0) <= place).sum())
        return BadIdError(
            f"Feature '{name}' of table '{table_name(table.name)}' must have ids from "
            f"0 to {last}, but got {int(ids[place])} in row {row} of a batch. Encode "
            f"the ids with the transforms that the model was trained with; dlrm "
            f"prepare and dlrm predict do.",
            feature=name,
            row=row,
        )
    return None
