"""One process's parts of tables as tables of their own."""

from __future__ import annotations

import dataclasses
from typing import Any

from dlrm.embeddings.kernel_options import TableConfig, padding_row
from dlrm.embeddings.sharded.placement import Part
from dlrm.embeddings.table_config import options_of


def part_config(config: TableConfig, part: Part) -> TableConfig:
    """Return the config of a table that is ``part`` of the one of ``config``.

    Its ``padding_idx`` counts from the part's first row. A part without rows gets one
    that no id reaches: fbgemm has no empty tables.
    """
    changes: dict[str, Any] = {
        "num_embeddings": max(part.num_rows, 1),
        "embedding_dim": part.num_columns,
    }
    row = padding_row(config)
    if row is not None:
        inside = part.rows.start <= row < part.rows.stop
        changes["options"] = dataclasses.replace(
            options_of(config), padding_idx=row - part.first_row if inside else None
        )
    return dataclasses.replace(config, **changes)
