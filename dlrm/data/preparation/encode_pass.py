"""Encode all rows and put them into shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.progress import Progress
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.statistics import Gathering
from dlrm.data.preparation.assembling import (
    RecordsTask,
    ShardPlan,
    SideTask,
    plan_shards,
)
from dlrm.data.preparation.blocks import BlockStore, Task
from dlrm.data.preparation.encoding import EncodeTask, RowsOfTexts, has_vocabulary
from dlrm.data.preparation.read_pass import ReadRows
from dlrm.data.preparation.spill import column_of
from dlrm.data.preparation.split_tally import SplitTally
from dlrm.data.preparation.workers import Workers
from dlrm.data.storage.layout import RecordLayout
from dlrm.data.storage.manifest import FileRecord

_ENCODED_NAME = "encoded-{:07d}"


@dataclass(frozen=True, slots=True)
class EncodedRowsOnDisk:
    """The shards, and what was counted while they were made."""

    tally: SplitTally
    gathered: Gathering
    splits: dict[str, list[int]]
    """Rows of each shard."""
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class EncodePass:
    """One pass over the blocks, and one over what it gives."""

    data: DataConfig
    store: BlockStore
    rows: ReadRows
    codes: Path
    split_rows: tuple[int, ...]
    """Rows of each split."""
    schema: FeatureSchema
    merged: Mapping[str, str]
    """By table with a vocabulary: the name of the merged counts."""
    rows_per_shard: int

    def run(self, workers: Workers, made: Path) -> EncodedRowsOnDisk:
        """Write all shards below ``made``.

        Raises:
            DataError: A value does not fit its column.
        """
        tally = SplitTally()
        gathered = Gathering(
            self.data, self.schema, len(SPLITS), expected_rows=self.split_rows
        )
        names, sizes = self._encode(workers, tally, gathered)
        plans = plan_shards(names, sizes, rows_per_shard=self.rows_per_shard)
        files = self._assemble(workers, plans, made)
        splits: dict[str, list[int]] = {}
        for plan in plans:
            splits.setdefault(plan.split, []).append(plan.num_rows)
        return EncodedRowsOnDisk(tally, gathered, splits, files)

    def _encode_tasks(self) -> Iterator[EncodeTask]:
        tables = has_vocabulary(self.schema)
        starts = dict.fromkeys(tables, 0)
        for number, block in enumerate(self.rows.blocks):
            rows = {}
            for feature, table in tables.items():
                count = block.num_texts(column_of(feature))
                name = self.merged[table]
                rows[feature] = RowsOfTexts(self.store, name, starts[feature], count)
                starts[feature] += count
            yield EncodeTask(
                self.store,
                _ENCODED_NAME.format(number),
                block,
                self.data,
                self.schema,
                rows,
                self.codes,
                self.rows.raw_types,
                self.split_rows,
            )

    def _encode(
        self, workers: Workers, tally: SplitTally, gathered: Gathering
    ) -> tuple[list[str], list[dict[str, int]]]:
        """Encode all blocks; return their names, and their rows by split."""
        total = sum(self.split_rows)
        names: list[str] = []
        sizes: list[dict[str, int]] = []
        with Progress(total, "Encoding", "rows") as progress:
            for number, result in enumerate(workers.results(self._encode_tasks())):
                names.append(_ENCODED_NAME.format(number))
                sizes.append(result["num_rows"])
                tally.merge(result["tally"])
                gathered.merge(self.store.open(names[-1]).read("gathered"))
                progress.update(sum(result["num_rows"].values()))
        return names, sizes

    def _assemble(
        self, workers: Workers, plans: Sequence[ShardPlan], made: Path
    ) -> dict[str, FileRecord]:
        """Write all shards; return their files."""
        tasks: list[Task] = []
        layout = RecordLayout.of(self.schema)
        for plan in sorted(plans, key=lambda plan: -plan.num_rows):
            common: dict[str, Any] = {"store": self.store, "made": made, "plan": plan}
            name = f"{plan.split}-{plan.index:05d}"
            tasks.append(SideTask(name=f"side-{name}", **common))
            tasks.append(RecordsTask(name=f"records-{name}", layout=layout, **common))
        files = {}
        with Progress(len(tasks), "Writing", "files") as progress:
            for result in workers.results(tasks):
                for name, (size, crc32) in result["files"].items():
                    files[name] = FileRecord(size, crc32)
                progress.update()
        return files
