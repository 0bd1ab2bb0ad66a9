"""Are the rows of a run's tables alive, sound and different from each other?

A checkpoint's tables are read file by file, and no model is filled. Shape suffixes:
R = rows of a table, P = rows of a file, D = width.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlrm.checkpoints.files import TRAINING, WEIGHT, TableRows, read_table
from dlrm.checkpoints.load import read_state
from dlrm.config.errors import ConfigError
from dlrm.config.features import Encoding
from dlrm.config.keys import did_you_mean
from dlrm.config.progress import Progress
from dlrm.config.root import Config
from dlrm.config.table_options import Gradient
from dlrm.data.transforms.row_matching import data_table
from dlrm.data.transforms.vocabulary import table_row_keys
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.kernel_options import padding_row
from dlrm.embeddings.state import USES
from dlrm.embeddings.table_config import options_of
from dlrm.explanation.costs import model_loads, table_cost
from dlrm.explanation.table_rows import RowsSeen, expected_collisions
from dlrm.models import model_config
from dlrm.planning.table_loads import TableLoad
from dlrm.run import Run


def check_health(
    run: Run, checkpoint: Path, *, table: str | None = None
) -> dict[str, Any]:
    """Return the content of ``embeddings.json``, the run's name and such left out.

    ``tables``: one entry a table, those of most bytes first, or ``table`` alone:

    - ``table``, ``rows``, ``dim``, ``dtype``, ``weight_bytes``, ``state_bytes``,
      ``features``;
    - ``never_trained``: rows that are, bit for bit, their initial value. null where
      that proves nothing, and ``unknown`` says why;
    - ``never_looked_up``: rows whose count of lookups is 0; null without
      ``admit_after``, which alone counts;
    - ``norms`` and ``trained_norms``: of all rows and of those trained, ``mean``,
      ``min``, ``p01``, ``p25``, ``median``, ``p75``, ``p99``, ``max``; null without
      such rows;
    - ``not_finite_rows``, ``zero_rows`` (dead), ``tiny_rows`` and ``large_rows``
      (trained, below 0.001 and above 10 times the trained median norm);
    - ``duplicate_rows``: rows, not of zeros, that equal another one before them;
      ``largest_duplicate_group`` counts the most rows that are all one, 0 without any;
    - ``effective_rank``: of the trained rows, 1 to ``dim``; null without any;
    - ``collisions``: null where ids are not hashed or the rows in use are not known,
      else ``buckets``, ``used_buckets``, ``expected_ids``, ``ids_per_used_bucket``
      and ``share_of_ids_colliding``; the last three are null where all are in use.

    The padding row, which is zero by design, counts in none of them. ``warnings`` are
    sentences, what is worst first.

    Raises:
        ConfigError: There is no such table.
        RunError: The checkpoint is damaged.
    """
    # Every file's checksum is compared here.
    read_state(checkpoint)
    loads = model_loads(run, {})
    if table is not None:
        loads = {table: _chosen(loads, table)}
    initial = _initial_values(run)
    entries = []
    with Progress(len(loads), "embeddings", "tables") as progress:
        for load in sorted(loads.values(), key=lambda load: -load.total):
            entries.append(_describe(run, checkpoint, load, initial))
            progress.update()
    return {"tables": entries, "warnings": warn_of(entries)}


def warn_of(entries: list[dict[str, Any]]) -> list[str]:
    """Return what a person should look at, of the entries of ``check_health``."""
    found: list[tuple[int, str]] = []
    for entry in entries:
        name, rows = entry["table"], max(entry["rows"], 1)
        if entry["not_finite_rows"]:
            count = entry["not_finite_rows"]
            found.append((0, f"{name}: {count:,} rows are not finite"))
        if entry["large_rows"]:
            count = entry["large_rows"]
            found.append((1, f"{name}: {count:,} rows exceed 10 times the median norm"))
        untouched = entry["never_trained"]
        if untouched is not None and untouched > rows / 2:
            share = untouched / rows
            found.append((2, f"{name}: {share:.0%} of the rows were never trained"))
        collisions = entry["collisions"]
        if collisions is not None:
            share = collisions["share_of_ids_colliding"]
            if share is None:
                found.append((3, f"{name}: every hashed row is in use"))
            elif share > 0.5:
                found.append((3, f"{name}: about {share:.0%} of the ids share a row"))
        dead = entry["zero_rows"] + entry["tiny_rows"]
        if dead > rows / 10:
            found.append((4, f"{name}: {dead / rows:.0%} of the rows are all but zero"))
        same = entry["duplicate_rows"]
        if same > rows / 10:
            found.append((5, f"{name}: {same / rows:.0%} of the rows repeat another"))
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def _chosen(loads: dict[str, TableLoad], table: str) -> TableLoad:
    if table in loads:
        return loads[table]
    raise ConfigError(
        f"table must be a table of the run, but '{table}' is none."
        f"{did_you_mean(table, list(loads))} The run has: "
        f"{', '.join(loads) or 'none'}."
    )


def _initial_values(run: Run) -> InitialValues:
    @functools.lru_cache(maxsize=1)
    def row_keys(table: str) -> np.ndarray:
        return table_row_keys(run.folder, run.schema, table)

    return InitialValues(
        seed=run.config.trainer.seed,
        default=model_config(run.config.model).embedding_init,
        row_keys=row_keys,
    )


def _describe(
    run: Run, checkpoint: Path, load: TableLoad, initial: InitialValues
) -> dict[str, Any]:
    unknown = why_unknown(run.config, load, data_table(run.schema, load.name))
    seen, counter = RowsSeen(), _Counter(load, run)
    padding = padding_row(load.config)
    for part in read_table(checkpoint, load.name):
        weight = part.columns[WEIGHT]
        untrained = None
        if unknown is None:
            untrained = _untouched(part, load, initial)
        inside = padding is not None and part.start <= padding < part.stop
        seen.add(
            weight.float().numpy(),
            untrained=untrained,
            padding=padding - part.start if inside and padding is not None else None,
        )
        counter.add(part, untrained)
    described = seen.describe()
    never_trained = described.pop("never_trained")
    return {
        **table_cost(load).record(),
        "never_trained": never_trained,
        "unknown": {} if unknown is None else {"never_trained": unknown},
        "never_looked_up": counter.never_looked_up,
        **described,
        "collisions": counter.collisions(),
    }


def why_unknown(config: Config, load: TableLoad, table: str) -> str | None:
    """Say why a row equal to its initial value need not be one never trained.

    Or why a row that was never trained need not be equal. None where neither is so.
    """
    options = options_of(load.config)
    optimizer = options.optimizer.resolved(config.optimizer.sparse)
    if config.init_from is not None:
        return "the run started from another run's tables"
    if options.pretrained.path is not None:
        return f"tables.{table}.pretrained.path set its first values"
    if options.gradient is Gradient.dense and optimizer.weight_decay:
        return "weight decay on dense gradients moves every row"
    return None


def _untouched(part: TableRows, load: TableLoad, initial: InitialValues) -> np.ndarray:
    # An average of many equal values may differ from them in its last bit.
    weight = part.columns.get(TRAINING, part.columns[WEIGHT])
    first = torch.empty_like(weight)
    initial.fill(load.config, first, start_row=part.start)
    same: np.ndarray = (weight == first).all(dim=1).numpy()
    padding = padding_row(load.config)
    if padding is not None and part.start <= padding < part.stop:
        same[padding - part.start] = False
    return same


@dataclass(slots=True)
class _Counter:
    """Counts rows in use, of hashed rows, and rows never looked up."""

    load: TableLoad
    run: Run
    used: int | None = None
    never_looked_up: int | None = None

    def add(self, part: TableRows, untrained: np.ndarray | None) -> None:
        uses = part.columns.get(USES)
        if uses is not None:
            zero = int((uses == 0).sum())
            self.never_looked_up = (self.never_looked_up or 0) + zero
        first = self._first_bucket()
        if first is None or untrained is None:
            return
        own = untrained[max(first - part.start, 0) :]
        self.used = (self.used or 0) + int(np.count_nonzero(~own))

    def collisions(self) -> dict[str, Any] | None:
        first = self._first_bucket()
        if first is None or self.used is None:
            return None
        buckets = self.load.num_rows - first
        expected = expected_collisions(self.used, buckets)
        nothing = dict.fromkeys(
            ("expected_ids", "ids_per_used_bucket", "share_of_ids_colliding")
        )
        if expected is None and self.used == 0:
            return None
        return {
            "buckets": buckets,
            "used_buckets": self.used,
            **(nothing if expected is None else expected),
        }

    def _first_bucket(self) -> int | None:
        """Return the first row that ids reach by hash; None where they do not."""
        table = data_table(self.run.schema, self.load.name)
        if self.run.schema.options(table).compression.rows_per_id > 1:
            return None
        fitted = self.run.schema.tables[table][0]
        if fitted.feature.encoding is Encoding.hash:
            return 0
        return fitted.num_known if fitted.num_buckets else None
