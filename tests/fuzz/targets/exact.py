"""The exact parser alone, on records as blocks give them."""

from __future__ import annotations

from pathlib import Path

from dlrm.data.sources.dialect import Dialect
from dlrm.data.sources.exact import read_records
from tests.fuzz.engine import Target
from tests.fuzz.findings import expect
from tests.fuzz.judges.text_rows import judge_rows
from tests.fuzz.script import Script, seed_input


def check(data: bytes, _folder: Path) -> None:
    """Parse a block, and compare fields, lines, texts and faults."""
    script = Script(data)
    dialect = Dialect(
        separator=script.pick((",", "\t", "::", "é")),
        quoting=script.pick((True, False)),
    )
    names = script.pick((("a", "b"), ("a",), ("a", "b", "c")))
    wanted = script.pick((names, names[:1], names[-1:]))
    first_line = 1 + script.byte()
    block = script.body + b"\n"
    records = read_records(
        block,
        first_line=first_line,
        names=names,
        wanted=[names.index(name) for name in wanted],
        dialect=dialect,
    )
    judged = judge_rows(
        block.decode("utf-8", "surrogateescape"),
        line=first_line,
        names=list(names),
        wanted=list(wanted),
        separator=dialect.separator,
        quoting=dialect.quoting,
    )
    found = list(records)
    expect(len(found) == len(judged), "another number of records", found, judged)
    for record, row in zip(found, judged, strict=True):
        expect(record.line == row.line, "another line", record, row)
        expect(
            bool(record.fault) == (row.fields is None), "another verdict", record, row
        )
        expect(row.fault in record.fault, "another reason", record, row)
        if row.fields is not None:
            fields = [record.fields[names.index(name)].decode() for name in wanted]
            expect(fields == row.fields, "fields differ", record, row)
    expect(
        b"\n".join(r.text for r in found).count(b"\n") == block.count(b"\n") - 1,
        "lines lost",
        found,
    )


TARGET = Target(
    name="exact",
    check=check,
    seeds=(
        seed_input(b'1,"x"\n2,"a""b"\n"3\n4",\xff\r\n"5'),
        seed_input(b"1::2::3\n\n\r\na::b", options=(2, 1, 2)),
        seed_input("1é2\n".encode(), options=(3, 0, 0)),
    ),
    tokens=(b'"', b'""', b'",', b',"', "é".encode()),
)
