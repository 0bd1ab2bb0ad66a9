"""Columns of many types from fuzzed cells, and what must be read from them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa

from dlrm.config.data import BadRows, DataConfig, SourceFormat
from dlrm.config.features import DenseFeature, SparseFeature
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.typed_rows import Row, compare_typed, read_typed
from tests.fuzz.script import Script

COLUMNS = ("y", "d", "s", "b", "v")
PLAIN = ("int64", "text", "float64", "bool", "int8", "uint64", "coded", "null")
NUMBERS = (*PLAIN, "half", "float32", "decimal", "large")
LISTS = ("texts", "ints", "large_texts", "pairs", "coded_texts", "null")
ODD = ("bytes", "date", "moment", "zoned", "struct", "map", "duration", "list_of_lists")
"""Types that some role may refuse; where it does not, no row may crash."""

TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "int8": pa.int8(),
    "uint64": pa.uint64(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "half": pa.float16(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "large": pa.large_string(),
    "coded": pa.dictionary(pa.int32(), pa.string()),
    "null": pa.null(),
    "decimal": pa.decimal128(20, 3),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "moment": pa.timestamp("us"),
    "zoned": pa.timestamp("ms", "UTC"),
    "duration": pa.duration("s"),
    "struct": pa.struct([("a", pa.int64())]),
    "map": pa.map_(pa.string(), pa.int64()),
    "texts": pa.list_(pa.string()),
    "large_texts": pa.large_list(pa.string()),
    "coded_texts": pa.list_(pa.dictionary(pa.int32(), pa.string())),
    "ints": pa.list_(pa.int64()),
    "floats": pa.list_(pa.float64()),
    "pairs": pa.list_(pa.int64(), 2),
    "list_of_lists": pa.list_(pa.list_(pa.int64())),
}


def value_of(kind: str, cell: bytes) -> Any:
    """Return the cell as a value of that type; an empty one is missing."""
    if not cell or kind == "null":
        return None
    match kind:
        case "int64" | "int8" | "uint64":
            return _whole(cell, kind)
        case "float64" | "float32" | "half":
            return _float(cell, kind)
        case "bool":
            return len(cell) % 2 == 1
        case "text" | "large" | "coded":
            return cell.decode("utf-8", "replace")
        case "decimal":
            return Decimal(_whole(cell, "int64") // 1000) / 1000
        case "bytes":
            return cell
        case "date":
            return date(1, 1, 1) + timedelta(days=_whole(cell, "int64") % 3_650_000)
        case "moment":
            return datetime(1, 1, 1) + timedelta(hours=_whole(cell, "int64") % 10**7)
        case "zoned":
            hours = timedelta(hours=_whole(cell, "int64") % 10**6)
            return datetime(1970, 1, 1, tzinfo=timezone.utc) + hours
        case "duration":
            return timedelta(seconds=_whole(cell, "int64") % 10**9)
        case "struct":
            return {"a": _whole(cell, "int64")}
        case "map":
            return [("k", _whole(cell, "int64"))]
        case "pairs":
            return [_whole(cell, "int64"), None]
        case "list_of_lists":
            return [[_whole(cell, "int64")], None]
    item = {"ints": "int64", "floats": "float64"}.get(kind, "text")
    return [value_of(item, part) for part in cell.split(b"|")]


def _whole(cell: bytes, kind: str) -> int:
    try:
        number = int(cell)
    except ValueError:
        number = int.from_bytes(cell[:9], "little", signed=True)
    bits = 8 if kind == "int8" else 64
    low = 0 if kind == "uint64" else -(2 ** (bits - 1))
    return (number - low) % 2**bits + low


def _float(cell: bytes, kind: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = struct.unpack("d", cell[:8].ljust(8, b"\0"))[0]
    form = {"float64": "d", "float32": "f", "half": "e"}[kind]
    try:
        return float(struct.unpack(form, struct.pack(form, number))[0])
    except OverflowError:
        return math.inf


def draw_columns(script: Script) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """Return each column's kind, and its values: a line of the body is a row."""
    odd = script.byte()
    kinds = {
        "y": script.pick(PLAIN),
        "d": script.pick(NUMBERS),
        "s": script.pick((*PLAIN, "large", "decimal")),
        "b": script.pick(LISTS),
        "v": "floats",
    }
    if odd >= 192:
        kinds[COLUMNS[odd % 4]] = script.pick((*ODD, *LISTS))
    rows = [line.split(b",") for line in script.body.split(b"\n")][:400]
    return kinds, {
        name: [value_of(kind, row[i] if i < len(row) else b"") for row in rows]
        for i, (name, kind) in enumerate(kinds.items())
    }


def typed_config(
    kinds: dict[str, str], source: str | None, weights: bool
) -> DataConfig:
    """Return a config under which each column has the role it is made for."""
    return DataConfig(
        name="p",
        format=SourceFormat.table,
        source=source,
        label="y",
        dense_features={"d": DenseFeature()},
        sparse_features={
            "s": SparseFeature(),
            "b": SparseFeature(multi_hot=True, weight_column="v" if weights else None),
        },
        bad_rows=BadRows.skip,
    )


def judge_chunks(
    chunks: Any, kinds: dict[str, str], values: dict[str, list[Any]], config: DataConfig
) -> None:
    """Hold what was read, raw and typed, to the values that were written."""
    expect(not isinstance(chunks, Refused), "sound columns refused", chunks)
    names = [
        name for name in values if any(name in c.table.column_names for c in chunks)
    ]
    raw = [row for chunk in chunks for row in chunk.table.to_pylist()]
    for name in names:
        found = [row[name] for row in raw]
        expect(
            _alike(found, values[name]), f"column {name} differs", found, values[name]
        )
    odd = [kinds[name] for name in names if not _serves(name, kinds[name])]
    if odd:
        answer(lambda: read_typed(chunks, config))
        return
    lines = [(c.file, int(line)) for c in chunks for line in c.rows]
    rows: list[Row] = [
        (*place, {name: values[name][i] for name in names})
        for i, place in enumerate(lines)
    ]
    compare_typed(rows, chunks, config)


def _serves(name: str, kind: str) -> bool:
    if name in ("y", "d"):
        # Arrow's double of a decimal may be the neighbour of the nearest one.
        return kind in NUMBERS and kind != "decimal"
    if name == "s":
        # A decimal's text keeps its zeros: 1.000 is no 1, and the judge has no say.
        return kind in (*PLAIN, "large")
    return kind in (*LISTS, "floats")


def _alike(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    if len(found) != len(wanted):
        return False
    return all(_same(a, b) for a, b in zip(found, wanted, strict=True))


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, list) and isinstance(wanted, list):
        return _alike(found, wanted)
    if found is None and isinstance(wanted, float):
        return math.isnan(wanted)  # pandas writes a missing number so.
    if isinstance(found, float) and isinstance(wanted, float):
        return found == wanted or (math.isnan(found) and math.isnan(wanted))
    return bool(found == wanted)
