"""Delimited text, with and without headers, in several encodings, plain and gzip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlrm.config.data import BadRows
from dlrm.data.sources.chunk import BadRow, Chunk
from dlrm.data.sources.delimited import read_delimited
from dlrm.data.sources.dialect import Dialect
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.text_rows import JudgedFile, judge_file
from tests.fuzz.script import Script, packed, seed_input, write

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
NULLS = ("", "NA", "NaN", "nan", "null", "NULL")


def check(data: bytes, folder: Path) -> None:
    """Read one file by both bad-row policies, and compare with the judge's rows."""
    script = Script(data)
    separator = script.pick((",", "\t", "::", "|", ";"))
    quoting = script.pick((True, True, False))
    encoding = script.pick(("utf-8", "utf-8", "utf-8", "latin-1", "utf-16", "cp1252"))
    given = script.pick((None, None, None, ("a",), ("a", "b"), ("a", "b", "c")))
    block_bytes = script.pick((8 << 20, 1, 2, 3, 7, 16, 33, 64))
    nulls = script.pick((("",), NULLS))
    num_wanted = script.pick((0, 0, 1, 2))
    stored = packed(script, script.body)
    path = write(folder / "rows.csv", stored.data)
    dialect = Dialect(
        separator=separator,
        quoting=quoting,
        encoding=encoding,
        null_values=nulls,
        column_names=given,
    )
    judged = judge_bytes(stored.content, dialect, num_wanted)
    columns = judged.names[:num_wanted] if judged and num_wanted else None

    def read(bad_rows: BadRows) -> tuple[list[Any], list[BadRow]]:
        return rows_of(
            read_delimited(
                [path],
                dialect,
                columns=columns,
                bad_rows=bad_rows,
                block_bytes=block_bytes,
            )
        )

    skipping = answer(lambda: read(BadRows.skip))
    if stored.may_refuse and isinstance(skipping, Refused):
        return
    compare(judged, skipping, nulls)
    compare_first_fault(judged, answer(lambda: read(BadRows.error)), path)


def judge_bytes(
    content: bytes, dialect: Dialect, wanted: int | list[str]
) -> JudgedFile | None:
    """Decode as the dialect says, then judge; None where the file is no such text.

    ``wanted`` are the columns to keep, or the number of the first ones; 0 is all.
    """
    if dialect.encoding == "utf-8":
        if content.startswith(UTF16_MARKS):
            return None
        text = content.decode("utf-8", "surrogateescape")
    elif dialect.encoding == "utf-16" and content[:2] not in (
        *UTF16_MARKS,
        content[:1],
    ):
        # Without its mark nothing says which byte comes first.
        return None
    else:
        try:
            text = content.decode(dialect.encoding, "surrogateescape")
            text.encode("utf-8", "surrogateescape")
        except UnicodeError:
            return None

    def judge(names: list[str] | None) -> JudgedFile | None:
        return judge_file(
            text,
            separator=dialect.separator,
            quoting=dialect.quoting,
            given_names=dialect.column_names,
            wanted=names,
        )

    judged = judge(None)
    if judged is None or not wanted:
        return judged
    return judge(judged.names[:wanted] if isinstance(wanted, int) else wanted)


def rows_of(chunks: Iterable[Chunk]) -> tuple[list[Any], list[BadRow]]:
    """Return all rows as (line, values), and all that were left out."""
    rows: list[Any] = []
    bad: list[BadRow] = []
    for chunk in chunks:
        values = zip(
            *(column.to_pylist() for column in chunk.table.columns), strict=True
        )
        found = list(zip(chunk.rows.tolist(), values, strict=True))
        expect(len(found) == chunk.table.num_rows, "rows without a line", found)
        expect(0 <= chunk.progress <= 1, "a share beyond 1", chunk.progress)
        rows += found
        bad += chunk.quarantined
    return rows, bad


def compare(judged: JudgedFile | None, read: Any, nulls: tuple[str, ...]) -> None:
    """Hold rows, their lines, and the bad rows with their reasons to the judge's."""
    if judged is None or isinstance(read, Refused):
        expect(judged is None, "a sound file refused", read, judged)
        expect(isinstance(read, Refused), "an unsound file read", read)
        return
    rows, bad = read
    good = [
        (row.line, tuple(None if text in nulls else text for text in row.fields))
        for row in judged.rows
        if row.fields is not None
    ]
    expect(rows == good, "rows differ", rows, good)
    faults = [row for row in judged.rows if row.fields is None]
    lines = [row.line for row in faults]
    expect([b.row for b in bad] == lines, "bad rows differ", bad, lines)
    for row, found in zip(faults, bad, strict=True):
        expect(row.fault in found.reason, "another reason", found, row)


def compare_first_fault(judged: JudgedFile | None, read: Any, path: Path) -> None:
    """Without skipping, the first bad row stops the work and is named."""
    if judged is None:
        expect(isinstance(read, Refused), "an unsound file read", read)
        return
    fault = next((row for row in judged.rows if row.fields is None), None)
    if fault is None:
        expect(not isinstance(read, Refused), "a sound file refused", read)
        return
    expect(isinstance(read, Refused), "a bad row went unseen", read, fault)
    wanted = f"{path}, line {fault.line}: the row "
    expect(read.message.startswith(wanted), "another place", read, fault)
    expect(fault.fault in read.message, "another reason", read, fault)


_CSV = b'a,b,c\n1,x,"y,z"\n2,"p""q",\n3,"two\nlines",w\r\n'
TARGET = Target(
    name="delimited",
    check=check,
    seeds=(
        seed_input(_CSV),
        seed_input(_CSV, options=(0, 0, 0, 0, 4, 1, 1, 220)),
        seed_input(b"1\t2\n3\t4\n", options=(1, 2, 0, 4, 3)),
        seed_input(b"1::2::3\n4::5::6\n", options=(2, 2, 3, 5)),
        seed_input("a|b\né|2\n".encode("utf-16"), options=(3, 0, 4)),
        seed_input(b"a\n\nx\n", options=(0, 0, 0, 0, 2)),
        seed_input(b""),
    ),
    tokens=(b'","', b',"', b'",', b"a,b\n", b"\x1f\x8b"),
)
