"""The vectors of a run's table under raw keys, read from a checkpoint alone.

No model is built, so that nothing of the run is executed. A vector is what a lookup of
its id gives: rescaled to ``max_norm``, zero until admitted, composed where the table is
compressed.

Shape suffixes: N = ids of the table, R = its rows, D = width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from dlrm.checkpoints.files import TableRows, read_table
from dlrm.checkpoints.load import read_state
from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean
from dlrm.config.table_options import TableOptions
from dlrm.data.transforms.row_matching import FittedTables, data_table
from dlrm.data.transforms.table_keys import TableKeys
from dlrm.embeddings.compression import combine_rows, id_rows
from dlrm.embeddings.renorm import rescale
from dlrm.embeddings.state import USES
from dlrm.run import Run

_IDS_PER_CHUNK = 65_536
_WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class TableVectors:
    """One table of a checkpoint, id by id."""

    table: str
    checkpoint: str
    keys: TableKeys
    vectors: np.ndarray
    """float32 [N, D]."""
    num_rows: int
    """R: fewer than the ids where the table is compressed."""
    dtype: str
    """That the rows are stored in."""
    untrained: np.ndarray | None
    """bool [R]: rows whose optimizer state is zero; None where there is no state."""

    def __len__(self) -> int:
        """Count the ids."""
        return len(self.vectors)

    def names(self, rows: np.ndarray) -> list[str]:
        """Return what to call some ids: their keys where they have one."""
        keys = self.keys.keys.take(pa.array(rows)).to_pylist()
        pairs = zip(keys, rows.tolist(), strict=True)
        return [self._name(key, row) for key, row in pairs]

    def columns(self, start: int, stop: int) -> pa.Table:
        """Return ids as a table of ``key``, ``row``, ``count`` and ``vector``."""
        stop = min(stop, len(self))
        flat = pa.array(self.vectors[start:stop].reshape(-1))
        width = self.vectors.shape[1]
        offsets = pa.array(np.arange(stop - start + 1, dtype=np.int64) * width)
        counts = self.keys.counts
        known = pa.nulls(stop - start, pa.int64())
        if counts is not None:
            own = counts[start:stop]
            known = pa.array(own, mask=own < 0)
        return pa.table(
            {
                "key": self.keys.keys.slice(start, stop - start),
                "row": pa.array(np.arange(start, stop)),
                "count": known,
                "vector": pa.LargeListArray.from_arrays(offsets, flat),
            }
        )

    def _name(self, key: str | None, row: int) -> str:
        if key is not None:
            return key
        unknown = row == 0 and self.keys.has_unknown_row
        return "(unknown values)" if unknown else f"(row {row})"


def load_table(run: Run, table: str, *, checkpoint: Path) -> TableVectors:
    """Read a table of a run's checkpoint.

    Raises:
        ConfigError: There is no such table.
        UserError: The checkpoint or a vocabulary is damaged.
    """
    tables = list(read_state(checkpoint)["tables"])
    if table not in tables:
        raise _unknown(run, table, tables)
    base = data_table(run.schema, table)
    fitted = FittedTables(run.folder, run.schema)
    options = run.schema.options(base)
    whole = _read(checkpoint, table)
    weight = whole.columns[_WEIGHT]
    rows = _looked_up(weight, whole.columns.get(USES), options)
    num_ids = fitted.first_user(base).num_embeddings
    return TableVectors(
        table=table,
        checkpoint=checkpoint.name,
        keys=fitted.keys(base),
        vectors=_composed(rows, options, num_ids).numpy(),
        num_rows=weight.shape[0],
        dtype=str(weight.dtype).removeprefix("torch."),
        untrained=_untrained(whole.optimizer),
    )


def _unknown(run: Run, table: str, tables: list[str]) -> ConfigError:
    reads = {fitted.name: fitted.table for fitted in run.schema.sparse}
    hint = did_you_mean(table, tables)
    if reads.get(table) in tables:
        hint = f" Feature '{table}' reads table {reads[table]}."
    return ConfigError(
        f"table must be a table of the run, but '{table}' is none.{hint} The run has: "
        f"{', '.join(tables) or 'none'}."
    )


def _read(checkpoint: Path, table: str) -> TableRows:
    parts = sorted(read_table(checkpoint, table), key=lambda part: part.start)
    columns = {
        name: torch.cat([part.columns[name] for part in parts])
        for name in parts[0].columns
    }
    return TableRows(0, parts[-1].stop, columns)


def _looked_up(
    weight: torch.Tensor, uses: torch.Tensor | None, options: TableOptions
) -> torch.Tensor:
    rows = weight.float()
    if options.max_norm is not None:
        rows = rescale(rows, max_norm=options.max_norm, norm_type=options.norm_type)
    if uses is not None:
        rows = rows * (uses >= options.admit_after)[:, None]
    return rows


def _composed(rows: torch.Tensor, options: TableOptions, num_ids: int) -> torch.Tensor:
    composition = id_rows(options.compression, num_ids=num_ids)
    if composition is None:
        return rows
    vectors = torch.empty(num_ids, rows.shape[1])
    for start in range(0, num_ids, _IDS_PER_CHUNK):
        ids = torch.arange(start, min(start + _IDS_PER_CHUNK, num_ids))
        parts = rows.index_select(0, composition.rows(ids).flatten())
        vectors[start : start + len(ids)] = combine_rows(parts, composition)
    return vectors


def _untrained(state: dict[str, torch.Tensor]) -> np.ndarray | None:
    if not state:
        return None
    touched = [values.reshape(len(values), -1).any(dim=1) for values in state.values()]
    return ~torch.stack(touched).any(dim=0).numpy()
