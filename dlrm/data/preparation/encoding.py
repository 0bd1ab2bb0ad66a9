"""Encode a block: its records go where they stay, its bags beside them for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.statistics import Gathering, columns_watched
from dlrm.data.preparation.blocks import BlockStore, BlockWriter, FinishedBlock
from dlrm.data.preparation.merging import rows_section
from dlrm.data.preparation.shard_plan import Place
from dlrm.data.preparation.spill import SpilledBlock
from dlrm.data.preparation.split_tally import SplitTally
from dlrm.data.storage.layout import FLOAT, INT, START
from dlrm.data.storage.rows import EncodedRows, starts_of
from dlrm.data.storage.split_rows import gather_ragged
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.data.transforms.id_encoder import KnownRows
from dlrm.data.transforms.vocabulary import LABEL_CLASSES


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
    split_rows: tuple[int, ...]
    """Rows of each split, of all blocks together."""
    places: tuple[Place, ...]
    """Where the records go."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Write records in place, and sections for bags; return what was counted."""
        typed = self.block.table(leave_out=self._only_kept())
        codes = self.block.codes(self.codes)
        tally = SplitTally()
        encoded = self._transforms().encode_columns(typed, tally.observer(codes))
        rows = encoded.rows
        tally.add(rows, codes)
        gathered = Gathering(
            self.data, self.schema, len(SPLITS), expected_rows=self.split_rows
        )
        gathered.update(typed, rows, codes)
        chosen = {
            split: np.flatnonzero(codes == code) for code, split in enumerate(SPLITS)
        }
        written = [
            place.write(encoded.columns, chosen[place.split]) for place in self.places
        ]
        if rows.bag_lengths.shape[1]:
            for split, own in chosen.items():
                _write_bags(out, split, rows, own)
        out.append("gathered", gathered.to_bytes())
        return {"num_rows": len(rows), "tally": tally.counts(), "crc32": written}

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say whether the records still lie in place.

        Whatever would change the rows starts the work anew.
        """
        written = result["crc32"]
        return len(written) == len(self.places) and all(
            place.holds(crc32)
            for place, crc32 in zip(self.places, written, strict=True)
        )

    def _only_kept(self) -> list[str]:
        """Name the columns that are for the side alone."""
        used = columns_watched(self.data)
        names = (name for name in self.block.names() if name.startswith("raw:"))
        return [name for name in names if name not in used]

    def _transforms(self) -> FittedTransforms:
        known = {name: KnownRows(of.read(name)) for name, of in self.rows.items()}
        return FittedTransforms(self.schema, {}, known)


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """The bags of some rows of one split of one encoded block."""

    file: FinishedBlock
    split: str
    start: int
    stop: int

    def value_ends(self) -> np.ndarray:
        """Return int64 [R + 1]: where each row's ids end, and the first one's start."""
        count = self.stop - self.start + 1
        return self.file.numbers(f"{self.split}/ends", START, self.start, count)

    def values(self, name: str, ends: np.ndarray) -> np.ndarray:
        """Return the ids (``values``) or their weights (``weights``) of the rows."""
        dtype = INT if name == "values" else FLOAT
        first, last = int(ends[0]), int(ends[-1])
        return self.file.numbers(f"{self.split}/{name}", dtype, first, last - first)


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


def _write_bags(
    out: BlockWriter, split: str, rows: EncodedRows, chosen: np.ndarray
) -> None:
    """Write the bags of the rows with these numbers as those of ``split``."""
    starts = rows.value_starts()
    lengths = np.diff(starts)[chosen]
    own = starts_of(lengths)
    out.append(f"{split}/ends", own.astype(START))
    starts = starts[chosen]
    out.append(f"{split}/values", gather_ragged(rows.bag_values, starts, lengths))
    if rows.bag_weights is not None:
        out.append(f"{split}/weights", gather_ragged(rows.bag_weights, starts, lengths))
