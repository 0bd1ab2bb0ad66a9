"""DataFrames of many dtypes, names that are no text, values that nothing can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dlrm.data.sources import open_source
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.typed_rows import read_typed
from tests.fuzz.script import Script, seed_input
from tests.fuzz.targets.typed_values import (
    ODD,
    TYPES,
    draw_columns,
    judge_chunks,
    typed_config,
)

SPOILERS: tuple[Any, ...] = (
    2**63,
    -(2**70),
    1j,
    "\ud800",
    object,
    b"\xff",
    {1, 2},
    {"a": 1},
    float("inf"),
    pd.NaT,
    np.float16(1.5),
    pd.Interval(0, 1),
    pd.Period("2020-01"),
    pd.Timestamp.max,
    (1, "a"),
    np.array([[1, 2], [3, 4]]),
)


def check(data: bytes, _folder: Path) -> None:
    """Read a frame; spoilt ones may be refused, but must not crash."""
    script = Script(data)
    kinds, values = draw_columns(script)
    how, spoil = script.byte(), script.byte()
    config = typed_config(kinds, None, weights=bool(how & 1))
    frame = pd.DataFrame(
        {
            name: _series(kinds[name], column, arrow=bool(how & 2))
            for name, column in values.items()
        }
    )
    frame.index = pd.Index(np.zeros(len(frame))) if how & 4 else frame.index
    if spoil < 128:
        chunks = answer(lambda: list(open_source(config, frame).chunks()))
        odd = {"uint64", *ODD} & {*kinds.values()}
        if isinstance(chunks, Refused) and odd:
            return  # Arrow guesses types of objects: integers, say, have 63 bits.
        judge_chunks(chunks, kinds, values, config)
        return
    try:
        _spoil(frame, spoil, how)
    except (TypeError, NotImplementedError, ValueError):
        return  # pandas itself has no such column.
    spoilt = _renamed(frame, spoil) if spoil >= 208 else frame
    chunks = answer(lambda: list(open_source(config, spoilt).chunks()))
    if isinstance(chunks, Refused):
        return
    expect(sum(c.table.num_rows for c in chunks) == len(frame), "rows lost", chunks)
    answer(lambda: read_typed(chunks, config))


def _series(kind: str, values: list[Any], *, arrow: bool) -> pd.Series:
    if arrow:
        return pd.Series(
            pd.arrays.ArrowExtensionArray(
                pa.chunked_array([pa.array(values, TYPES[kind])])
            )
        )
    return pd.Series(values, dtype=object)


def _spoil(frame: pd.DataFrame, spoil: int, how: int) -> None:
    column = frame.columns[how % len(frame.columns)]
    cells = list(frame[column])
    cells[spoil % len(cells)] = SPOILERS[spoil % len(SPOILERS)]
    spoilt = pd.Series([None] * len(cells), dtype=object)
    for row, cell in enumerate(cells):
        spoilt.array[row] = cell
    if how & 8:
        spoilt = spoilt.astype("category") if how & 16 else spoilt.infer_objects()
    frame[column] = spoilt.array


def _renamed(frame: pd.DataFrame, spoil: int) -> pd.DataFrame:
    names = list(frame.columns)
    match spoil % 4:
        case 0:
            names[1] = "y"
        case 1:
            names[1] = 7
        case 2:
            return frame.set_axis(pd.MultiIndex.from_product([["a"], names]), axis=1)
        case _:
            return pd.concat([frame, frame], axis=1)
    return frame.set_axis(names, axis=1)


_BODY = b"1,2.5,x,a|b,1|2\n0,,7,,\n1,-3,9223372036854775807,5|6|,0.5|1|2\n0,1,,x,1"
TARGET = Target(
    name="frames",
    check=check,
    seeds=tuple(
        seed_input(_BODY, options=(0, kind, kind, kind, kind, kind % 8, 0))
        for kind in range(8)
    )
    + tuple(
        seed_input(_BODY, options=(0, 2, 2, 2, 1, k, 128 + 3 * k)) for k in range(32)
    ),
)
