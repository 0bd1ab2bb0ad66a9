"""Raw rows -> dataset folder in passes whose tasks any number of processes share.

Read and type (a task a block of the source) | deal rows to splits | fit (a task a
column) | encode (a task a block; records go to their place) | finish shards (a task a
file). What a task gives lies on disk, whole or not at all, so that a preparation that
was killed goes on from there; what it gives depends on the raw rows and the settings
alone. In memory are one block a process and the distinct values of one part of one
vocabulary.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from dlrm.config.data import DataConfig
from dlrm.config.durable import writing_to
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.contract import build_contract
from dlrm.data.preparation.arrow_start import settle_pandas
from dlrm.data.preparation.blocks import BlockStore, SpentError
from dlrm.data.preparation.encode_pass import EncodedRowsOnDisk, EncodePass
from dlrm.data.preparation.fit_pass import Fit, FitPass
from dlrm.data.preparation.kept_columns import kept_columns
from dlrm.data.preparation.nursery import Nursery
from dlrm.data.preparation.read_pass import ReadPass
from dlrm.data.preparation.resources import Resources
from dlrm.data.preparation.splits import deal_rows
from dlrm.data.preparation.summary import summarize
from dlrm.data.preparation.workers import Workers
from dlrm.data.sources.chunk import Source
from dlrm.data.storage.shards import ROWS_PER_SHARD, write_manifest
from dlrm.data.transforms.fitting import MAX_LISTED_VALUES
from dlrm.data.transforms.vocabulary import StoredCounts

BLOCKS_FOLDER = "blocks"


@dataclass(frozen=True, slots=True)
class Preparation:
    """One run over the raw rows, in a working folder of its own."""

    data: DataConfig
    source: Source
    fingerprint: str
    work: Path
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    """Raw columns of the source by kind, for the data contract."""
    rows_per_shard: int = ROWS_PER_SHARD
    is_large: bool = False
    """Known beforehand to be work for several processes."""
    nursery: Nursery | None = None
    """They are being started already."""

    def run(self) -> Path:
        """Return the finished dataset's folder, inside the working folder.

        Raises:
            UserError: The raw rows do not fit the config, or a process was killed.
            OSError: The disk is full.
        """
        made = self.work / "dataset"
        store = BlockStore(self.work / BLOCKS_FOLDER)
        for folder in (store.folder, made):
            folder.mkdir(exist_ok=True)
        try:
            self._make(store, made)
        except SpentError:
            # An earlier preparation was done with rows, and then lost what it had made
            # of them: the machine had kept names and not all contents.
            store.remove_spent()
            self._make(store, made)
        return made

    def _make(self, store: BlockStore, made: Path) -> None:
        """Do all passes, as far as what they give is not there."""
        data = self.data
        _remove_loose_files(made)
        codes = self.work / "codes.bin"
        resources = Resources.of(data)
        with Workers(
            resources.num_workers, at_once=self.is_large, nursery=self.nursery
        ) as workers:
            settle_pandas()
            rows = ReadPass(data, self.source, store, self.work).run(workers, made)
            sizes = tuple(deal_rows(data, rows.blocks, codes).tolist())
            fitting = FitPass(
                data, store, rows.blocks, codes, made, resources.task_bytes
            )
            fit = fitting.run(workers)
            schema, size = self._named(fit), self.rows_per_shard
            encoding = EncodePass(
                data, store, rows, codes, sizes, schema, fit.merged, size
            )
            encoded = encoding.run(workers, made)
        schema = dataclasses.replace(schema, splits=encoded.tally.splits())
        with writing_to(made):
            self._describe(made, schema, fit, encoded, rows.num_quarantined)
            write_manifest(made, encoded.splits, encoded.files)

    def _describe(
        self,
        made: Path,
        schema: FeatureSchema,
        fit: Fit,
        encoded: EncodedRowsOnDisk,
        num_quarantined: int,
    ) -> None:
        """Write what lies beside the rows."""
        tally, gathered = encoded.tally, encoded.gathered
        gathered.count_outside(tally.num_outside(), tally.outside())
        build_contract(
            gathered,
            self.data,
            schema,
            vocabularies=StoredCounts(made, schema),
            columns=self.columns,
        ).save(made)
        schema.save(made)
        summarize(
            schema,
            num_values=fit.num_values,
            outside=tally.outside(),
            num_outside=tally.num_outside(),
            num_quarantined=num_quarantined,
        ).save(made)

    def _named(self, fit: Fit) -> FeatureSchema:
        small = [
            fitted.name
            for fitted in fit.schema.one_hot
            if (fit.num_values.get(fitted.name) or MAX_LISTED_VALUES + 1)
            <= MAX_LISTED_VALUES
        ]
        return dataclasses.replace(
            fit.schema,
            kept_columns=kept_columns(self.data, small),
            fingerprint=self.fingerprint,
        )


def _remove_loose_files(made: Path) -> None:
    """Delete what a preparation that was killed wrote last, which is written anew."""
    for path in made.iterdir():
        if path.is_file():
            path.unlink()
    for path in made.rglob("*.half"):
        path.unlink()
