"""fastText's lines: labels among words, cut at its seven kinds of space."""

from __future__ import annotations

from pathlib import Path

from dlrm.config.data import BadRows, DataConfig, FasttextSource, SourceFormat
from dlrm.config.features import SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.text import TextOptions
from dlrm.data.sources import open_source
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.script import PACKED_MAGIC, Script, packed, seed_input, write

SPACES = b" \n\r\t\x0b\x0c\x00"


def check(data: bytes, folder: Path) -> None:
    """Read a file with and without labels, by both bad-row policies."""
    script = Script(data)
    prefix = script.pick(("__label__", "#", "a"))
    with_labels = script.pick((True, True, False))
    stored = packed(script, script.body)
    path = write(folder / "lines.txt", stored.data)
    config = DataConfig(
        name="f",
        format=SourceFormat.fasttext,
        source=str(path),
        fasttext=FasttextSource(label_prefix=prefix),
        label_kind=LabelKind.multilabel,
        sparse_features={"text": SparseFeature(multi_hot=True, text=TextOptions())},
        bad_rows=BadRows.skip,
    )

    def read() -> tuple[list[object], list[int]]:
        chunks = list(open_source(config, with_labels=with_labels).chunks())
        rows = [
            (line, *row.values())
            for chunk in chunks
            for line, row in zip(
                chunk.rows.tolist(), chunk.table.to_pylist(), strict=True
            )
        ]
        return rows, [bad.row for chunk in chunks for bad in chunk.quarantined]

    found = answer(read)
    if stored.data.startswith(PACKED_MAGIC[:4]):
        return
    if isinstance(found, Refused) and stored.may_refuse:
        return
    content = stored.content
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        expect(isinstance(found, Refused), "UTF-16 read", found)
        return
    judged = judge(content, prefix.encode(), keep_blank=not with_labels)
    expect(found == judged, "rows differ", found, judged)
    config.bad_rows = BadRows.error
    first = answer(read)
    bad = judged[1]
    if bad:
        expect(isinstance(first, Refused), "a bad line went unseen", first)
        named = first.message.startswith(f"{path}, line {bad[0]}: ")
        expect(named, "another place", first, bad)
    else:
        expect(first == judged, "a sound file refused", first)


def judge(
    content: bytes, prefix: bytes, *, keep_blank: bool
) -> tuple[list[object], list[int]]:
    """Return rows as (line, labels, text), and the lines that are not UTF-8."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    rows: list[object] = []
    bad: list[int] = []
    for number, line in enumerate(lines, 1):
        words, word = [], b""
        for value in line + b" ":
            if value not in SPACES:
                word += bytes([value])
            elif word:
                words.append(word)
                word = b""
        try:
            line.decode()
        except UnicodeDecodeError:
            bad.append(number)
            continue
        labels = [
            w[len(prefix) :].decode() for w in words if w[: len(prefix)] == prefix
        ]
        text = b" ".join(w for w in words if w[: len(prefix)] != prefix).decode()
        if words or keep_blank:
            rows.append((number, labels, text))
    return rows, bad


TARGET = Target(
    name="fasttext",
    check=check,
    seeds=(
        seed_input(b"__label__a some words __label__b here\n__label__c\n\n x y"),
        seed_input(b"#1 a\n\xc3\xa9 #2\n", options=(1, 2, 220)),
        seed_input(b"\xef\xbb\xbf__label__a b\r\n"),
    ),
    tokens=(b"__label__", b"__label__a ", b"\x0c", b"\x0b", b"</s>", b" \n"),
)
