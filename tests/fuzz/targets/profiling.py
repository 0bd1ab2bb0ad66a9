"""``dlrm init``: what it counts is what a slow parser counts, and its config loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from dlrm.commands.init import Written, init
from dlrm.config.delimiters import delimiter_text
from dlrm.data.sources.dialect import Dialect
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.text_rows import JudgedFile
from tests.fuzz.script import Script, packed, seed_input, write
from tests.fuzz.targets.delimited import NULLS, judge_bytes


def check(data: bytes, folder: Path) -> None:
    """Profile a table in its own folder."""
    script = Script(data)
    separator = script.pick((None, None, "comma", "tab", "|"))
    encoding = script.pick((None, None, None, "latin-1", "utf-16"))
    quoting = script.pick((True, True, False))
    label = script.pick(("y", "y", "y", "label", ""))
    stored = packed(script, script.body)
    path = write(folder / "clicks.csv", stored.data)
    home = Path.cwd()
    os.chdir(folder)
    try:
        written = answer(
            lambda: init(
                str(path),
                label=label,
                separator=separator,
                encoding=encoding,
                quoting=quoting,
                overwrite=True,
            )
        )
        if not isinstance(written, Refused):
            _compare(written, stored.content, label)
    finally:
        os.chdir(home)


def _compare(written: Written, content: bytes, label: str) -> None:
    table = written.preset.table
    dialect = Dialect(
        separator=delimiter_text(table.separator, key="separator"),
        quoting=table.quoting,
        encoding=table.encoding,
        null_values=NULLS,
    )
    judged = judge_bytes(content, dialect, 0)
    expect(judged is not None, "an unsound file profiled", written)
    assert judged is not None
    good = [row.fields for row in judged.rows if row.fields is not None]
    profile = written.profile
    expect(profile.num_rows == len(good), "rows miscounted", profile.num_rows, good)
    expect(
        len(profile.bad_rows) == len(judged.rows) - len(good),
        "bad rows miscounted",
        judged,
    )
    for number, name in enumerate(judged.names):
        cells = [None if row[number] in NULLS else row[number] for row in good]
        column = profile.columns[name]
        expect(column.num_missing == cells.count(None), "gaps miscounted", name)
        if column.kind != "list":
            distinct = len({cell for cell in cells if cell is not None})
            expect(column.num_distinct == distinct, "values miscounted", name, cells)
    _check_preset(written, judged, label)


def _check_preset(written: Written, judged: JudgedFile, label: str) -> None:
    text = written.path.read_text(encoding="utf-8")
    loaded: Any = OmegaConf.create(yaml.safe_load(text))
    config = OmegaConf.to_container(loaded, resolve=True)
    assert isinstance(config, dict)
    expect(config["label"] == label, "another label", config["label"])
    features = {
        **(config.get("dense_features") or {}),
        **(config.get("sparse_features") or {}),
    }
    columns = [feature.get("column", name) for name, feature in features.items()]
    expect(len(set(columns)) == len(columns), "a column twice", columns)
    expect({*columns} <= {*judged.names} - {label}, "columns made up", columns)


_TABLE = b"id,y,price,tags,when,shop\n" + b"".join(
    b"r%d,%d,%d.5,%s,2020-01-%02d,s%d\n"
    % (i, i % 2, i, (b"a|b", b"b", b"c|a")[i % 3], 1 + i, i % 4)
    for i in range(14)
)
TARGET = Target(
    name="profiling",
    check=check,
    seeds=(
        seed_input(_TABLE),
        seed_input(_TABLE.replace(b",", b"\t")),
        seed_input(_TABLE.decode().encode("utf-16"), options=(0, 4)),
        seed_input(_TABLE.replace(b"a|b", b'"[1, 2]"')),
        seed_input(b"y,n\n1,007\n0,3\n1,9223372036854775808\n", options=(2,)),
        seed_input(b"y,\xe9\n1,caf\xe9\n0,b\n"),
    ),
    tokens=(
        b"y",
        b"id",
        b"y,",
        *_TABLE.splitlines(keepends=True)[:4],
        b"1e5",
        b"'['a']'",
    ),
)
