"""Parquet files of many types, whole or damaged: values must be those written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.data.sources import open_source
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, WrongAnswerError, answer, expect
from tests.fuzz.script import Script, seed_input
from tests.fuzz.targets.typed_values import (
    TYPES,
    draw_columns,
    judge_chunks,
    typed_config,
)


def check(data: bytes, folder: Path) -> None:
    """Write a table, perhaps damage it, and read it back."""
    script = Script(data)
    kinds, values = draw_columns(script)
    layout, damage, place = script.byte(), script.byte(), script.byte()
    path = folder / "rows.parquet"
    config = typed_config(kinds, str(path), weights=bool(layout & 1))
    arrays = [pa.array(values[name], TYPES[kinds[name]]) for name in values]
    names = list(values)
    if layout & 2 and layout & 4 and layout & 8:
        # A name that comes twice is ambiguous, and refused.
        arrays, names = [*arrays, arrays[1]], [*names, "d"]
    pq.write_table(
        pa.table(arrays, names=names),
        path,
        row_group_size=(1 << 20, 1, 3)[layout % 3],
        compression=("none", "snappy", "zstd")[layout // 3 % 3],
        use_dictionary=bool(layout & 16),
        data_page_version="2.0" if layout & 32 else "1.0",
        write_page_checksum=True,
    )
    if damage >= 160:
        _damage(path, damage, place)
    chunks = answer(lambda: list(open_source(config).chunks()))
    if damage < 160 and len(names) == len(values):
        judge_chunks(chunks, kinds, values, config)
    elif damage < 160:
        expect(isinstance(chunks, Refused), "a column of two meanings read", chunks)
    elif not isinstance(chunks, Refused):
        try:
            judge_chunks(chunks, kinds, values, config)
        except WrongAnswerError:
            # No checksum covers a file's own description: another reader must agree.
            _ask_polars(path, chunks)


def _damage(path: Path, damage: int, place: int) -> None:
    data = bytearray(path.read_bytes())
    at = (damage * 256 + place) * 40_503 % len(data)
    if damage < 192:
        path.write_bytes(data[: max(4, at)])
        return
    data[at] ^= 1 << (place % 8)
    data[:4] = b"PAR1"
    path.write_bytes(data)


def _ask_polars(path: Path, chunks: Any) -> None:
    found = pa.concat_tables([c.table for c in chunks], promote_options="permissive")
    try:
        other = pl.read_parquet(path, use_statistics=False)
    except Exception:
        return  # One reader refuses, the other need not.
    for name in found.column_names:
        if name not in other.columns:
            return
        mine, theirs = found[name].to_pylist(), other[name].to_list()
        # A flipped bit may take a column's mark as text; its bytes are the same.
        same = repr(_as_text(mine)) == repr(_as_text(theirs))
        expect(same, f"{name} is nobody's", mine, theirs)


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


_BODY = b"1,2.5,x,a|b,1|2\n0,,7,,\n1,-3,9223372036854775807,5|6|,0.5|1|2\n0,1,,x,1"
TARGET = Target(
    name="parquet",
    check=check,
    seeds=tuple(
        seed_input(_BODY, options=(0, *option))
        for option in (
            (0, 0, 0, 0),
            (0, 2, 1, 1, 1),
            (4, 8, 5, 2, 17),
            (1, 3, 6, 3, 33),
            (2, 9, 2, 4, 14),
            (3, 10, 7, 5, 3),
            (0, 1, 0, 0, 1, 200, 9),
            (0, 1, 0, 0, 1, 170, 9),
        )
    )
    + tuple(
        seed_input(_BODY, options=(192 + i, 0, 0, 0, 0, k))
        for i in range(4)
        for k in range(8)
    ),
)
