"""Raw rows -> dataset folder in three passes: read, fit, encode.

In memory are split codes (and the keys a split goes by), vocabularies and one chunk.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import DataError, DatasetError
from dlrm.config.labels import LabelKind
from dlrm.config.progress import Progress
from dlrm.config.schema import FeatureSchema
from dlrm.data.columns.row_faults import place
from dlrm.data.columns.typed import typed_columns
from dlrm.data.preparation.kept_columns import (
    kept_columns,
    raw_columns,
    side_table,
    unified_types,
)
from dlrm.data.preparation.quarantine import Quarantine
from dlrm.data.preparation.spill import Spill
from dlrm.data.preparation.split_tally import SplitTally
from dlrm.data.preparation.splits import TRAIN, SplitKeys
from dlrm.data.preparation.summary import summarize
from dlrm.data.sources.chunk import BadRow, Source
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.manifest import PREPARE_ANEW
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.storage.shards import ShardWriter
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.data.transforms.fitting import MAX_LISTED_VALUES, TransformFitter


@dataclass(frozen=True, slots=True)
class Preparation:
    """One run over the raw rows, in a working folder of its own."""

    data: DataConfig
    source: Source
    fitter: TransformFitter
    fingerprint: str
    work: Path

    def run(self) -> Path:
        """Return the finished dataset's folder, inside the working folder.

        Raises:
            UserError: The raw rows do not fit the config.
            OSError: The disk is full.
        """
        made = self.work / "dataset"
        made.mkdir()
        spill = Spill(self.work / "spill")
        codes, num_quarantined = self._read(spill, made)
        types = unified_types(spill.schemas)
        transforms = self._fit(spill, codes)
        num_values = self.fitter.num_values()
        schema = self._named(transforms.schema, num_values)
        tally = SplitTally()
        with ShardWriter(made, schema) as shards:
            for part, typed in self._parts("Encoding", spill, codes):
                rows = transforms.encode(typed, tally.observer(part))
                tally.add(rows, part)
                side = side_table(typed, self.data, schema.kept_columns, types)
                _write(shards, rows, side, part)
            schema = dataclasses.replace(schema, splits=tally.splits())
            FittedTransforms(schema, transforms.vocabularies).save(made)
            summarize(
                schema,
                num_values=num_values,
                outside=tally.outside(),
                num_outside=tally.num_outside(),
                num_quarantined=num_quarantined,
            ).save(made)
        return made

    def _read(self, spill: Spill, made: Path) -> tuple[np.ndarray, int]:
        """Set all rows aside, typed; return split codes and the number left out."""
        data = self.data
        keys, keep = SplitKeys(data), raw_columns(data)
        done = 0.0
        with (
            Quarantine(made) as quarantine,
            Progress(100, "Reading", "%") as progress,
        ):
            for chunk in self.source.chunks():
                quarantine.add(chunk.quarantined)
                typed = typed_columns(chunk, data, keep=keep)
                quarantine.add(typed.bad_rows)
                if typed.table.num_rows:
                    spill.write(typed.table)
                    keys.add(typed.table, chunk.split)
                percent = 100 * chunk.progress
                progress.update(percent - done, {"rows": f"{keys.num_rows:,}"})
                done = percent
        if quarantine.first is not None and keys.num_rows == 0:
            raise _no_sound_row(quarantine.num_rows, quarantine.first)
        return keys.assign(), quarantine.num_rows

    def _fit(self, spill: Spill, codes: np.ndarray) -> FittedTransforms:
        labels: set[float] = set()
        for part, typed in self._parts("Fitting", spill, codes):
            is_train = part == TRAIN
            self.fitter.add(typed, is_train)
            if "weight" in typed.column_names:
                is_train &= typed["weight"].to_numpy() > 0
            if self.data.label_kind is LabelKind.click:
                found = typed["label"].to_numpy()[is_train]
                labels.update(np.unique(found).tolist())
        if self.data.label_kind is LabelKind.click:
            self._check_labels(labels)
        return self.fitter.finish()

    def _check_labels(self, labels: set[float]) -> None:
        """Refuse training rows that say nothing; ``labels`` are those with weight."""
        weights = self.data.weight_column
        if not labels:
            raise DataError(
                f"Some training rows must have a weight above 0, but column "
                f"{weights!r} (data.weight_column) is 0 in all of them. Check "
                f"data.weight_column, or leave it out."
            )
        if len(labels) == 1 and not (self.data.all_clicks and labels == {1.0}):
            counted = "all of them" if weights is None else "all that have weight"
            raise DataError(
                f"The training rows must hold clicks and non-clicks, but column "
                f"{self.data.label!r} (data.label) is {labels.pop():.0f} in {counted}. "
                f"Check data.label, or split the rows another way. A log of clicks "
                f"alone, for task.name=retrieval, needs data.all_clicks=true."
            )

    def _parts(
        self, label: str, spill: Spill, codes: np.ndarray
    ) -> Iterator[tuple[np.ndarray, pa.Table]]:
        start = 0
        with Progress(codes.size, label, "rows") as progress:
            for typed in spill:
                stop = start + typed.num_rows
                yield codes[start:stop], typed
                progress.update(stop - start)
                start = stop

    def _named(
        self, schema: FeatureSchema, num_values: dict[str, int | None]
    ) -> FeatureSchema:
        small = [
            fitted.name
            for fitted in schema.one_hot
            if (num_values.get(fitted.name) or MAX_LISTED_VALUES + 1)
            <= MAX_LISTED_VALUES
        ]
        return dataclasses.replace(
            schema,
            kept_columns=kept_columns(self.data, small),
            fingerprint=self.fingerprint,
        )


def _no_sound_row(num_bad: int, first: BadRow) -> DataError:
    return DataError(
        f"data.source must hold at least one sound row, but data.bad_rows=skip left "
        f"out all {num_bad:,}. {place(first.file, first.row)}: {first.reason}. Mend "
        f"the rows, or the setting that reads them."
    )


def _write(
    shards: ShardWriter, rows: EncodedRows, side: pa.Table, codes: np.ndarray
) -> None:
    for code, name in enumerate(SPLITS):
        chosen = codes == code
        if chosen.all():
            shards.write(name, rows, side)
        elif chosen.any():
            shards.write(name, _rows_where(rows, chosen), side.filter(pa.array(chosen)))


def _rows_where(rows: EncodedRows, chosen: np.ndarray) -> EncodedRows:
    chosen_ids = np.repeat(chosen, rows.bag_lengths.sum(axis=1))
    weights = rows.bag_weights
    return EncodedRows(
        labels=rows.labels[chosen],
        weights=rows.weights[chosen],
        dense=rows.dense[chosen],
        one_hot=rows.one_hot[chosen],
        bag_lengths=rows.bag_lengths[chosen],
        bag_values=rows.bag_values[chosen_ids],
        bag_weights=None if weights is None else weights[chosen_ids],
    )


def is_whole(folder: Path, *, explain: bool = False) -> bool:
    """Say whether ``folder`` is a dataset; ``explain`` prints why it no longer is."""
    if not folder.exists():
        return False
    try:
        Dataset.open(folder, verify=False)
    except DatasetError as error:
        if explain:
            reason = str(error).removesuffix(PREPARE_ANEW).rstrip()
            print(f"Preparing anew: {reason}", file=sys.stderr)
        return False
    return True


def publish(made: Path, folder: Path) -> None:
    """Move a finished dataset to its place, at once; what is damaged there goes."""
    if folder.exists():
        shutil.rmtree(folder)
    made.rename(folder)
    flush_to_disk(folder.parent)
