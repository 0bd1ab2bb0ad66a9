"""The headers of two files: names, where rows begin, and whether both agree."""

from __future__ import annotations

from pathlib import Path

from dlrm.data.sources.delimited import check_headers
from dlrm.data.sources.dialect import Dialect
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.script import PACKED_MAGIC, Script, seed_input, write
from tests.fuzz.targets.delimited import judge_bytes


def check(data: bytes, folder: Path) -> None:
    """Read two headers, and compare names and refusals."""
    script = Script(data)
    dialect = Dialect(
        separator=script.pick((",", "\t", "|", "::")),
        quoting=script.pick((True, True, False)),
        column_names=script.pick((None, None, None, ("a", "b"))),
    )
    needed = script.pick((None, ["a"], ["a", "b"]))
    contents = script.files[:2]
    paths = [
        write(folder / f"{number}.csv", content)
        for number, content in enumerate(contents)
    ]
    headers = answer(lambda: check_headers(paths, dialect, needed))
    if any(content.startswith(PACKED_MAGIC) for content in contents):
        return
    judged = [judge_bytes(content, dialect, 0) for content in contents]
    names = [None if file is None else file.names for file in judged]
    first = names[0]
    sound = first is not None and set(needed or ()) <= set(first)
    for other in names:
        sound = sound and other is not None and set(other) == set(first or ())
    if not sound:
        expect(isinstance(headers, Refused), "unsound headers read", headers, names)
        return
    expect(not isinstance(headers, Refused), "sound headers refused", headers, names)
    expect([list(h.names) for h in headers] == names, "names differ", headers, names)
    for header, content in zip(headers, contents, strict=True):
        text = content.removeprefix(b"\xef\xbb\xbf")
        ends = (text + b"\n")[: header.num_bytes]
        given = dialect.column_names is not None
        expect(given or ends.endswith(b"\n"), "rows begin in mid-line", header)
        expect(ends.count(b"\n") == header.num_lines, "lines miscounted", header)


TARGET = Target(
    name="headers",
    check=check,
    seeds=(
        seed_input(b"a,b\n1,2\n", b"b,a\n"),
        seed_input(b'"a","b\nc"\r\n', b'"a","b\nc"', options=(0, 0, 0, 1)),
        seed_input(b"a::b\n", options=(3, 2, 0, 2)),
        seed_input(b"1|2\n", options=(2, 2, 3)),
        seed_input(b",x\n", b"column_1,x\n"),
    ),
    tokens=(b"a", b"b", b"a,b\n", b"column_1", b"\x1c\x1d"),
)
