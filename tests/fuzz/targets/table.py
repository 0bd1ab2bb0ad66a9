"""A table's files, text of every role: found, read, typed, judged cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrm.config.data import BadRows, DataConfig, SourceFormat, Split, TableSource
from dlrm.config.features import DenseFeature, Encoding, Missing, SparseFeature
from dlrm.data.sources import open_source
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.text_rows import JudgedFile
from tests.fuzz.judges.typed_rows import Row, compare_typed
from tests.fuzz.script import PACKED_MAGIC, Script, packed, seed_input, write
from tests.fuzz.targets.delimited import NULLS, judge_bytes

PARQUET = b"PAR1"


def table_config(script: Script, source: str) -> DataConfig:
    """Return a config of some roles, so that one odd cell does not hide all others."""
    roles = script.byte()
    dense = {"d": DenseFeature()} if roles & 1 else {}
    if roles & 2:
        dense["e"] = DenseFeature(missing=Missing.error)
    sparse = {"s": SparseFeature()}
    if roles & 4:
        sparse["i"] = SparseFeature(encoding=Encoding.identity, num_embeddings=9)
    if roles & 8:
        sparse["k"] = SparseFeature(
            column="d", encoding=Encoding.bucketize, num_buckets=2
        )
    if roles & 16:
        sparse["b"] = SparseFeature(
            multi_hot=True, delimiter="pipe", weight_column="v", max_length=3
        )
    if roles & 32:
        sparse["j"] = SparseFeature(multi_hot=True, delimiter="brackets")
    split = script.pick((Split.random, Split.random, Split.column, Split.time))
    return DataConfig(
        name="t",
        format=SourceFormat.table,
        source=source,
        label="y",
        weight_column="w" if roles & 64 else None,
        keep_rate_column="r" if roles & 128 else None,
        sampled_splits=["train"] if roles & 128 else None,
        dense_features=dense,
        sparse_features=sparse,
        split=split,
        split_column="p" if split is Split.column else None,
        time_column="t" if split is Split.time else None,
        bad_rows=BadRows.skip,
    )


def check(data: bytes, folder: Path) -> None:
    """Read one or two files of a folder; rows come file after file."""
    script = Script(data)
    place = folder / "table"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    config = table_config(script, str(place))
    contents = script.files[:2]
    stored = [packed(script, content) for content in contents]
    paths = [
        write(place / f"part-{number}.csv", file.data)
        for number, file in enumerate(stored)
    ]
    if any(file.data.startswith((PARQUET, *PACKED_MAGIC[:4])) for file in stored):
        answer(lambda: list(open_source(config).chunks()))
        return
    chunks = answer(lambda: list(open_source(config).chunks()))
    if isinstance(chunks, Refused) and any(file.may_refuse for file in stored):
        return
    judged = judge_table(config, [file.content for file in stored])
    if judged is None:
        expect(isinstance(chunks, Refused), "unsound files read", chunks)
        return
    expect(not isinstance(chunks, Refused), "sound files refused", chunks)
    rows: list[Row] = []
    for path, file in zip(paths, judged, strict=True):
        rows += rows_by_column(str(path), file, config)
    compare_typed(rows, chunks, config)


def judge_table(config: DataConfig, contents: list[bytes]) -> list[JudgedFile] | None:
    """Judge all files; None where one is unsound or lacks a column."""
    from dlrm.data.sources.table import table_dialect

    dialect = table_dialect(config.table or TableSource())
    wanted = columns_of(config)
    judged = []
    for content in contents:
        whole = judge_bytes(content, dialect, 0)
        if whole is None or not set(wanted) <= set(whole.names):
            return None
        again = judge_bytes(content, dialect, wanted)
        assert again is not None
        judged.append(again)
    if any(set(file.names) != set(judged[0].names) for file in judged):
        return None
    return judged


def columns_of(config: DataConfig) -> list[str]:
    """List the columns that a config of this target names."""
    names = [config.label, config.weight_column, config.keep_rate_column]
    names += [config.split_column, config.time_column]
    names += [f.column or name for name, f in config.dense_features.items()]
    for name, feature in config.sparse_features.items():
        names += [feature.column or name, feature.weight_column]
    return list(dict.fromkeys(name for name in names if name))


def rows_by_column(file: str, judged: JudgedFile, config: DataConfig) -> list[Row]:
    """Return the sound records as cells by column, null values as None."""
    names = columns_of(config)
    rows: list[Row] = []
    for row in judged.rows:
        if row.fields is not None:
            cells: dict[str, Any] = {
                name: None if text in NULLS else text
                for name, text in zip(names, row.fields, strict=True)
            }
            rows.append((file, row.line, cells))
    return rows


_HEADER = b"y,d,e,s,i,b,v,j,w,r,p,t\n"
_ROWS = (
    b'1,2.5,3,x,4,a|b,1|2,"[1, 2]",1,0.5,train,17\n'
    b"0,,1e3,,0,,,,0,,test,2020-01-02\n"
    b"1, 7 ,-1,z,-3,q,1,\"['k']\",2.5,1,valid,2020-01-02T03:04:05Z\n"
)
TARGET = Target(
    name="table",
    check=check,
    seeds=(
        seed_input(_HEADER + _ROWS),
        seed_input(_HEADER + _ROWS, options=(255, 2)),
        seed_input(_HEADER + _ROWS, _HEADER + _ROWS, options=(127, 3)),
        seed_input(_HEADER + b"1,2,3,x,4,a,1,[],1,1,train,3\n" * 4, options=(63, 3)),
        seed_input(_HEADER, options=(4,)),
        seed_input(b"t,p\n", b""),
    ),
    tokens=(b"PAR1", _HEADER, *_ROWS.splitlines(keepends=True), b"train", b"valid"),
)
