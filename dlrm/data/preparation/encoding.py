"""Encode a block: its rows of each split as records, ready to be put into shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.statistics import Gathering
from dlrm.data.preparation.blocks import BlockStore, BlockWriter, FinishedBlock
from dlrm.data.preparation.kept_columns import side_table
from dlrm.data.preparation.merging import rows_section
from dlrm.data.preparation.spill import SpilledBlock
from dlrm.data.preparation.split_tally import SplitTally
from dlrm.data.storage.layout import FLOAT, INT, START, RecordLayout
from dlrm.data.storage.rows import EncodedRows, starts_of
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.data.transforms.id_encoder import KnownRows
from dlrm.data.transforms.vocabulary import LABEL_CLASSES

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@dataclass(frozen=True, slots=True)
class RowsOfTexts:
    """Where a feature's rows, text by text, lie for one block."""

    store: BlockStore
    name: str
    start: int
    """Texts of the blocks before it."""
    count: int

    def read(self, feature: str) -> np.ndarray:
        """Return the row of each text of the block's dictionary, int32."""
        section = rows_section(feature)
        file = self.store.open(self.name)
        return file.numbers(section, np.int32, self.start, self.count)


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """Encode one block's rows."""

    store: BlockStore
    name: str
    block: SpilledBlock
    data: DataConfig
    schema: FeatureSchema
    rows: Mapping[str, RowsOfTexts]
    """By feature with a vocabulary, and for classes."""
    codes: Path
    raw_types: Mapping[str, pa.DataType]
    split_rows: tuple[int, ...]
    """Rows of each split, of all blocks together."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Write sections for each split; return what was counted."""
        typed = self.block.table()
        codes = self.block.codes(self.codes)
        transforms = self._transforms()
        tally = SplitTally()
        rows = transforms.encode(typed, tally.observer(codes))
        tally.add(rows, codes)
        gathered = Gathering(
            self.data, self.schema, len(SPLITS), expected_rows=self.split_rows
        )
        gathered.update(typed, rows, codes)
        kept = self.schema.kept_columns
        side = side_table(typed, self.data, kept, self.raw_types)
        packed = _Packed.of(RecordLayout.of(self.schema), rows, side)
        sizes = {}
        for code, split in enumerate(SPLITS):
            chosen = np.flatnonzero(codes == code)
            sizes[split] = chosen.size
            if chosen.size:
                packed.write(out, split, chosen)
        out.append("gathered", gathered.to_bytes())
        return {"num_rows": sizes, "tally": tally.counts()}

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say that rows hold: whatever would change them starts the work anew."""
        del result
        return True

    def _transforms(self) -> FittedTransforms:
        known = {name: KnownRows(of.read(name)) for name, of in self.rows.items()}
        return FittedTransforms(self.schema, {}, known)


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """Some rows of one split of one encoded block."""

    file: FinishedBlock
    split: str
    start: int
    stop: int

    def records(self, layout: RecordLayout) -> np.ndarray:
        """Return int32 [R, words]."""
        words = layout.num_words
        size = (self.stop - self.start) * words
        found = self.file.numbers(
            f"{self.split}/records", INT, self.start * words, size
        )
        return found.reshape(-1, words)

    def value_ends(self) -> np.ndarray:
        """Return int64 [R + 1]: where each row's ids end, and the first one's start."""
        count = self.stop - self.start + 1
        return self.file.numbers(f"{self.split}/ends", START, self.start, count)

    def values(self, name: str, ends: np.ndarray) -> np.ndarray:
        """Return the ids (``values``) or their weights (``weights``) of the rows."""
        dtype = INT if name == "values" else FLOAT
        first, last = int(ends[0]), int(ends[-1])
        return self.file.numbers(f"{self.split}/{name}", dtype, first, last - first)

    def side(self) -> pa.Table:
        """Return the side columns."""
        data = pa.py_buffer(self.file.read(f"{self.split}/side"))
        with pa.ipc.open_stream(data) as reader:
            return reader.read_all().slice(self.start, self.stop - self.start)


def has_vocabulary(schema: FeatureSchema) -> dict[str, str]:
    """Name the table of each feature whose rows a vocabulary gives, and of classes."""
    found = {
        fitted.name: fitted.table
        for fitted in schema.sparse
        if fitted.feature.encoding is Encoding.vocabulary
    }
    if schema.num_label_bags:
        found[LABEL_CLASSES] = LABEL_CLASSES
    return found


@dataclass(frozen=True, slots=True)
class _Packed:
    """A block's rows as records, in file order."""

    records: np.ndarray
    rows: EncodedRows
    side: pa.Table
    has_bags: bool

    @classmethod
    def of(cls, layout: RecordLayout, rows: EncodedRows, side: pa.Table) -> _Packed:
        return cls(layout.pack(rows), rows, side, layout.num_multi_hot > 0)

    def write(self, out: BlockWriter, split: str, chosen: np.ndarray) -> None:
        """Write the rows with these numbers as those of ``split``."""
        is_all = chosen.size == len(self.rows)
        records = self.records if is_all else self.records.take(chosen, axis=0)
        out.append(f"{split}/records", records)
        if self.has_bags:
            self._write_bags(out, split, chosen)
        side = self.side if is_all else self.side.take(pa.array(chosen))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, side.schema, options=_OPTIONS) as writer:
            writer.write_table(side)
        out.append(f"{split}/side", memoryview(sink.getvalue()))

    def _write_bags(self, out: BlockWriter, split: str, chosen: np.ndarray) -> None:
        starts = self.rows.value_starts()
        lengths = np.diff(starts)[chosen]
        own = starts_of(lengths)
        values = np.arange(int(own[-1])) + np.repeat(starts[chosen] - own[:-1], lengths)
        out.append(f"{split}/ends", own.astype(START))
        out.append(f"{split}/values", self.rows.bag_values[values])
        if self.rows.bag_weights is not None:
            out.append(f"{split}/weights", self.rows.bag_weights[values])
