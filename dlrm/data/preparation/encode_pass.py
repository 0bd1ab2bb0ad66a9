"""Encode all rows and put them into shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.progress import Progress
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.statistics import Gathering
from dlrm.data.preparation.assembling import BagsTask, RecordsTask, SideTask
from dlrm.data.preparation.blocks import BlockStore, Task
from dlrm.data.preparation.encoding import EncodeTask, RowsOfTexts, has_vocabulary
from dlrm.data.preparation.read_pass import ReadRows
from dlrm.data.preparation.shard_plan import Place, ShardPlan, places_of, plan_shards
from dlrm.data.preparation.spill import column_of
from dlrm.data.preparation.split_tally import SplitTally
from dlrm.data.preparation.workers import Workers
from dlrm.data.storage.layout import RecordLayout
from dlrm.data.storage.manifest import FileRecord
from dlrm.data.storage.records_file import RecordsFile

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
    """One pass over the blocks, and what is left to do for each shard."""

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
        plans = plan_shards(self._sizes(), rows_per_shard=self.rows_per_shard)
        files: dict[str, FileRecord] = {}
        crc32s = self._encode(workers, plans, made, tally, gathered, files)
        self._finish(workers, plans, made, crc32s, files)
        splits: dict[str, list[int]] = {}
        for plan in plans:
            splits.setdefault(plan.split, []).append(plan.num_rows)
        return EncodedRowsOnDisk(tally, gathered, splits, files)

    def _sizes(self) -> list[list[int]]:
        """Count each block's rows of each split."""
        dealt = (block.codes(self.codes) for block in self.rows.blocks)
        return [np.bincount(codes, minlength=len(SPLITS)).tolist() for codes in dealt]

    def _encode(
        self,
        workers: Workers,
        plans: Sequence[ShardPlan],
        made: Path,
        tally: SplitTally,
        gathered: Gathering,
        files: dict[str, FileRecord],
    ) -> dict[Path, list[int]]:
        """Encode all blocks; return the CRC-32 of each shard's parts, by folder.

        Side files need no encoded row and come first: at the end a large one would keep
        one process busy, and the others waiting. So the rows that were read go as they
        are encoded, and what is written takes their room.
        """
        layout = RecordLayout.of(self.schema)
        for plan in plans:
            RecordsFile(plan.shard(made), layout.num_words).make(plan.num_rows)
        places = places_of(plans, len(self.rows.blocks), made, layout.num_words)
        found: dict[Path, list[int]] = {plan.shard(made): [] for plan in plans}
        encode_tasks = self._encode_tasks(places)
        side_tasks = (self._side_task(plan, made) for plan in plans)
        results = workers.results(chain(side_tasks, encode_tasks))
        numbers = count()
        with Progress(sum(self.split_rows), "Encoding", "rows") as progress:
            for result in results:
                if "files" in result:
                    _take_in(files, result)
                    continue
                number = next(numbers)
                for place, crc32 in zip(places[number], result["crc32"], strict=True):
                    found[place.file.shard].append(crc32)
                tally.merge(result["tally"])
                encoded = self.store.open(_ENCODED_NAME.format(number))
                gathered.merge(encoded.read("gathered"))
                self._spend(number)
                progress.update(result["num_rows"])
        return found

    def _spend(self, number: int) -> None:
        """Let the rows of a block go with the last one of its file."""
        names = [block.name for block in self.rows.blocks[number : number + 2]]
        if names[0] not in names[1:]:
            self.store.spend(names[0])

    def _encode_tasks(self, places: Sequence[Sequence[Place]]) -> Iterator[EncodeTask]:
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
                self.split_rows,
                tuple(places[number]),
            )

    def _finish(
        self,
        workers: Workers,
        plans: Sequence[ShardPlan],
        made: Path,
        crc32s: Mapping[Path, Sequence[int]],
        files: dict[str, FileRecord],
    ) -> None:
        """Write the shards' bags, and wait until their records are on disk."""
        tasks: list[Task] = []
        for plan in sorted(plans, key=lambda plan: -plan.num_rows):
            tasks += self._finish_tasks(plan, made, tuple(crc32s[plan.shard(made)]))
        with Progress(len(tasks), "Writing", "files") as progress:
            for result in workers.results(tasks):
                _take_in(files, result)
                progress.update()

    def _side_task(self, plan: ShardPlan, made: Path) -> SideTask:
        return SideTask(
            store=self.store,
            name=f"side-{plan.split}-{plan.index:05d}",
            made=made,
            plan=plan,
            blocks=tuple(self.rows.blocks[part.block] for part in plan.parts),
            codes=self.codes,
            data=self.data,
            kept=self.schema.kept_columns,
            raw_types=self.rows.raw_types,
        )

    def _finish_tasks(
        self, plan: ShardPlan, made: Path, crc32s: tuple[int, ...]
    ) -> Iterator[Task]:
        layout = RecordLayout.of(self.schema)
        common: dict[str, Any] = {"store": self.store, "made": made, "plan": plan}
        name = f"{plan.split}-{plan.index:05d}"
        if layout.num_multi_hot:
            blocks = (part.block for part in plan.parts)
            encoded = tuple(_ENCODED_NAME.format(number) for number in blocks)
            yield BagsTask(
                name=f"bags-{name}", layout=layout, encoded=encoded, **common
            )
        yield RecordsTask(
            name=f"records-{name}",
            num_words=layout.num_words,
            crc32s=crc32s,
            **common,
        )


def _take_in(files: dict[str, FileRecord], result: Mapping[str, Any]) -> None:
    for name, (size, crc32) in result["files"].items():
        files[name] = FileRecord(size, crc32)
