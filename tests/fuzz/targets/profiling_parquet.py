"""``dlrm init`` on Parquet files of many types: counts are right, or it refuses."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.commands.init import init
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.script import Script, seed_input
from tests.fuzz.targets.typed_values import ODD, TYPES, draw_columns


def check(data: bytes, folder: Path) -> None:
    """Profile a table of 14 rows and more, whose label is sound."""
    script = Script(data)
    kinds, values = draw_columns(script)
    values = {name: column * 14 for name, column in values.items()}
    num_rows = len(values["y"])
    if script.byte() < 200:
        kinds["y"], values["y"] = "int64", [row % 2 for row in range(num_rows)]
    path = folder / "t.parquet"
    arrays = [pa.array(values[name], TYPES[kinds[name]]) for name in values]
    pq.write_table(pa.table(arrays, names=list(values)), path)
    home = Path.cwd()
    os.chdir(folder)
    try:
        written = answer(lambda: init(str(path), label="y", overwrite=True))
    finally:
        os.chdir(home)
    if isinstance(written, Refused):
        return
    profile = written.profile
    expect(profile.num_rows == num_rows, "rows miscounted", profile.num_rows)
    for name, cells in values.items():
        column = profile.columns[name]
        known = [cell for cell in cells if not _is_missing(cell)]
        missing = len(cells) - len(known)
        expect(column.num_missing == missing, "gaps miscounted", name, column)
        plain = column.kind not in ("list", "other") and kinds[name] not in ODD
        if plain and kinds[name] != "decimal":
            distinct = len(set(known))
            expect(column.num_distinct == distinct, "values miscounted", name, column)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


_BODY = b"1,2.5,x,a|b,1|2\n0,,7,,\n1,-3,9223372036854775807,5|6|,0.5|1|2\n0,1,,x,1"
TARGET = Target(
    name="profiling_parquet",
    check=check,
    seeds=tuple(
        seed_input(_BODY, options=(0, kind, kind, kind, kind)) for kind in range(12)
    )
    + tuple(
        seed_input(_BODY, options=(192 + i, 0, 0, 0, 0, kind))
        for i in range(4)
        for kind in range(14)
    ),
)
