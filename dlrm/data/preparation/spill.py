"""Typed chunks set aside on disk column by column, so that raw files are parsed once.

Dictionaries of features with a vocabulary lie in the order of their texts' hashes: all
values whose hashes begin alike stand together in every block, so that a part of a
vocabulary can be counted without reading past the rest.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.features import Encoding
from dlrm.config.labels import LabelKind
from dlrm.data.columns.typed import typed_columns
from dlrm.data.columns.whole_column import whole_column
from dlrm.data.preparation.blocks import BlockStore, BlockWriter, FinishedBlock
from dlrm.data.sources.chunk import BadRow, Piece
from dlrm.data.transforms.hashing import hash_texts
from dlrm.data.transforms.vocabulary import LABEL_CLASSES
from dlrm.kernels.text_library import CodedTexts, order_by_hash

NUM_BUCKETS = 256
"""Parts of the range of hashes, by their first byte."""
_PLAIN = pa.ipc.IpcWriteOptions(use_threads=False)
_PACKED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""For strings alone: packing numbers costs more than writing them."""
_WHOLE, _NARROWED = "column", "narrowed"
_SMALL = ((1 << 8, np.uint8), (1 << 16, np.uint16))


@dataclass(frozen=True, slots=True)
class SpilledBlock:
    """Some consecutive rows, typed, on disk."""

    store: BlockStore
    name: str
    part: int
    """Which of the chunks that came of one piece."""
    num_rows: int
    split: str | None
    """What the source says of the rows."""
    first_row: int
    """Number of the first row, counted over all blocks."""
    counted: tuple[str, ...]
    """Columns whose values a vocabulary counts."""
    texts: np.ndarray
    """int32: how many texts the dictionary of each of them has."""

    @property
    def file(self) -> FinishedBlock:
        """The file, and where its sections lie."""
        return self.store.open(self.name)

    def column(self, name: str) -> pa.Array:
        """Read a typed column."""
        return _unpack(self.file.read(f"{self.part}/{name}"))

    def names(self) -> list[str]:
        """List the typed columns."""
        lead = f"{self.part}/"
        found = [name for name in self.file.names() if name.startswith(lead)]
        return [name.removeprefix(lead) for name in found if "#" not in name]

    def table(self, leave_out: Sequence[str] = ()) -> pa.Table:
        """Read all columns."""
        names = [name for name in self.names() if name not in leave_out]
        return pa.table({name: self.column(name) for name in names})

    def bucket_starts(self, name: str) -> np.ndarray:
        """Return int32 [257]: where each part of a column's dictionary starts."""
        return self.file.numbers(f"{self.part}/#{name}", np.int32)

    def num_texts(self, name: str) -> int:
        """Count the texts of a column's dictionary."""
        return int(self.texts[self.counted.index(name)])

    def codes(self, path: Path) -> np.ndarray:
        """Return the rows' split codes, int8, from the file of all codes."""
        return np.fromfile(path, np.int8, self.num_rows, offset=self.first_row)


@dataclass(frozen=True, slots=True)
class SpillTask:
    """Read one piece of the source, and set its sound rows aside."""

    store: BlockStore
    name: str
    piece: Piece
    data: DataConfig
    keep: tuple[str, ...]

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Write a section for each typed column of each chunk."""
        counted = counted_columns(self.data)
        parts: list[dict[str, Any]] = []
        bad: list[BadRow] = []
        progress = 0.0
        for chunk in self.piece.chunks():
            typed = typed_columns(chunk, self.data, keep=self.keep)
            bad += [*chunk.quarantined, *typed.bad_rows]
            progress = chunk.progress
            if typed.table.num_rows:
                texts = _write(out, len(parts), typed.table, counted)
                described = _described(typed.table, chunk.split)
                parts.append({**described, "texts": texts})
        return {
            "digest": self.piece.digest(),
            "parts": parts,
            "bad": [[row.file, row.row, row.reason, row.text] for row in bad],
            "progress": progress,
        }

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say whether the piece is the one whose rows were set aside."""
        return bool(result["digest"] == self.piece.digest())


def counted_columns(data: DataConfig) -> tuple[str, ...]:
    """Name the typed columns whose values a vocabulary counts."""
    found = [
        f"sparse:{name}"
        for name, feature in data.sparse_features.items()
        if feature.encoding is Encoding.vocabulary
    ]
    if data.label_kind is not LabelKind.click:
        found.append("classes")
    return tuple(found)


def column_of(feature: str) -> str:
    """Return the typed column of a feature, or of the label's classes."""
    return "classes" if feature == LABEL_CLASSES else f"sparse:{feature}"


def blocks_of(
    store: BlockStore,
    name: str,
    result: dict[str, Any],
    first_row: int,
    counted: tuple[str, ...],
) -> Iterator[SpilledBlock]:
    """Yield what a task set aside; its first row has number ``first_row``."""
    for index, part in enumerate(result["parts"]):
        yield SpilledBlock(
            store,
            name,
            index,
            part["num_rows"],
            part["split"],
            first_row,
            counted,
            np.array(part["texts"], dtype=np.int32),
        )
        first_row += part["num_rows"]


def raw_schema(part: dict[str, Any]) -> pa.Schema:
    """Return the schema of a part's raw columns."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(part["raw"])))


def _described(typed: pa.Table, split: str | None) -> dict[str, Any]:
    raw = [field for field in typed.schema if field.name.startswith("raw:")]
    text = base64.b64encode(pa.schema(raw).serialize()).decode()
    return {"num_rows": typed.num_rows, "split": split, "raw": text}


def _write(
    out: BlockWriter, part: int, typed: pa.Table, counted: Sequence[str]
) -> list[int]:
    """Write all columns; return how many texts each counted one has."""
    texts = dict.fromkeys(counted, 0)
    for name in typed.column_names:
        column = whole_column(typed, name)
        if name in texts:
            column, starts = _by_hash(column)
            out.append(f"{part}/#{name}", starts)
            texts[name] = int(starts[-1])
        out.append(f"{part}/{name}", _pack(column))
    return list(texts.values())


def _by_hash(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Put the dictionary in order of hash; return where its parts start, too."""
    if isinstance(column, pa.ListArray):
        first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
        texts, starts = _by_hash(column.values.slice(first, last - first))
        offsets = pa.array(column.offsets.to_numpy() - np.int32(first))
        return pa.ListArray.from_arrays(offsets, texts), starts
    ordered = order_by_hash(_coded(column)) if len(column) else None
    if ordered is not None:
        texts, starts = ordered
        return _dictionary(texts), starts
    buckets = (hash_texts(column.dictionary) >> np.uint64(56)).astype(np.uint8)
    order = np.argsort(buckets, kind="stable")
    place = np.empty(order.size, dtype=np.int32)
    place[order] = np.arange(order.size, dtype=np.int32)
    starts = np.zeros(NUM_BUCKETS + 1, dtype=np.int32)
    np.cumsum(np.bincount(buckets, minlength=NUM_BUCKETS), out=starts[1:])
    return (
        pa.DictionaryArray.from_arrays(
            pa.array(place[column.indices.to_numpy()]),
            column.dictionary.take(pa.array(order)),
        ),
        starts,
    )


def _coded(column: pa.DictionaryArray) -> CodedTexts:
    _, offset_buffer, byte_buffer = column.dictionary.buffers()
    first, count = column.dictionary.offset, len(column.dictionary)
    offsets = np.frombuffer(offset_buffer, np.int32)[first : first + count + 1]
    data = np.zeros(0, np.uint8)
    if byte_buffer is not None:
        data = np.frombuffer(byte_buffer, np.uint8)[offsets[0] : offsets[-1]]
    return CodedTexts(column.indices.to_numpy(), offsets - offsets[0], data)


def _dictionary(texts: CodedTexts) -> pa.DictionaryArray:
    buffers = (pa.py_buffer(texts.offsets), pa.py_buffer(texts.data))
    dictionary = pa.StringArray.from_buffers(len(texts.offsets) - 1, *buffers)
    codes = pa.array(texts.codes)
    return pa.DictionaryArray.from_arrays(codes, dictionary, safe=False)


def _pack(column: pa.Array) -> memoryview:
    narrow = _narrow(column)
    name = _WHOLE if narrow.type == column.type else _NARROWED
    batch = pa.record_batch([narrow], names=[name])
    sink = pa.BufferOutputStream()
    options = _PACKED if pa.types.is_string(column.type) else _PLAIN
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _unpack(data: bytes) -> pa.Array:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        column = reader.read_next_batch().column(0)
        return _wide(column) if reader.schema.names[0] == _NARROWED else column


def _narrow(column: pa.Array) -> pa.Array:
    """Hold numbers and codes in as few bytes as do exactly; nulls have no such form."""
    if column.null_count:
        return column
    if isinstance(column, pa.ListArray) and isinstance(
        column.values, pa.DictionaryArray
    ):
        return pa.ListArray.from_arrays(column.offsets, _narrow(column.values))
    if isinstance(column, pa.DictionaryArray) and column.indices.type == pa.int32():
        for size, dtype in _SMALL:
            if len(column.dictionary) <= size:
                return _with_codes(column, dtype)
    if pa.types.is_float64(column.type):
        return _narrow_floats(column)
    return column


def _narrow_floats(column: pa.DoubleArray) -> pa.Array:
    numbers = column.to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        half = numbers.astype(np.float32)
        back = half.astype(np.float64)
    # As bits, NaN is equal to itself, and no bit of one goes.
    is_exact = np.array_equal(back.view(np.int64), numbers.view(np.int64))
    return pa.array(half) if is_exact else column


def _wide(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ListArray):
        return pa.ListArray.from_arrays(column.offsets, _wide(column.values))
    if isinstance(column, pa.DictionaryArray):
        return _with_codes(column, np.int32)
    return pa.array(column.to_numpy().astype(np.float64))


def _with_codes(column: pa.DictionaryArray, dtype: type) -> pa.DictionaryArray:
    """Hold codes as another type, which has them all: casts that check take longer."""
    codes = pa.array(column.indices.to_numpy().astype(dtype))
    return pa.DictionaryArray.from_arrays(codes, column.dictionary, safe=False)
