"""Criteo's logs: tabs, no header, 40 columns; one file or days."""

from __future__ import annotations

from pathlib import Path

from dlrm.config.data import BadRows, CriteoSource, DataConfig, SourceFormat, Split
from dlrm.config.features import DenseFeature, Encoding, SparseFeature
from dlrm.data.sources import open_source
from dlrm.data.sources.criteo import COUNTS, IDS
from dlrm.data.sources.criteo_multi_hot import BAG_SIZES
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.text_rows import JudgedFile, judge_file
from tests.fuzz.judges.typed_rows import Row, compare_typed
from tests.fuzz.script import PACKED_MAGIC, Script, packed, seed_input, write

LABELLED = ("label", *COUNTS, *IDS)
_USED = ("label", "I1", "I13", "C1", "C21", "C26")


def criteo_config(source: Path, *, days: bool, multi_hot: bool) -> DataConfig:
    """Return a config of few features: all columns must stand there in any case."""
    one_hot = {"encoding": Encoding.hash, "num_embeddings": 7, "multi_hot": multi_hot}
    return DataConfig(
        name="c",
        format=SourceFormat.criteo_1tb if days else SourceFormat.criteo_kaggle,
        source=str(source),
        criteo=CriteoSource(multi_hot=multi_hot, multi_hot_seed=3),
        dense_features={name: DenseFeature() for name in ("I1", "I13")},
        sparse_features={
            name: SparseFeature(**one_hot) for name in ("C1", "C21", "C26")
        },
        split=Split.source if days else Split.random,
        bad_rows=BadRows.skip,
    )


def check(data: bytes, folder: Path) -> None:
    """Read the one-hot columns of one file, or of several days."""
    check_log(data, folder, multi_hot=False)


def check_log(data: bytes, folder: Path, *, multi_hot: bool) -> None:
    """Read a log, with or without bags, and hold splits and cells to the judge's."""
    script = Script(data)
    days = script.byte() % 3 == 1
    place = folder / "criteo"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    stored = [packed(script, content) for content in script.files[:3]]
    for number, file in enumerate(stored):
        write(place / f"day_{9 + number}", file.data)
    config = criteo_config(place, days=days, multi_hot=multi_hot)
    chunks = answer(lambda: list(open_source(config).chunks()))
    if any(file.data.startswith(PACKED_MAGIC[:4]) for file in stored):
        return
    if isinstance(chunks, Refused) and any(file.may_refuse for file in stored):
        return
    judged = [
        _judge(file.content, check_width=number == 0)
        for number, file in enumerate(stored)
    ]
    if any(file is None for file in judged) or (days and len(judged) < 2):
        expect(isinstance(chunks, Refused), "unsound files read", chunks)
        return
    expect(not isinstance(chunks, Refused), "sound files refused", chunks)
    rows: list[Row] = []
    splits: list[str | None] = []
    for number, file in enumerate(judged):
        assert file is not None
        path = str(place / f"day_{9 + number}")
        found = [row for row in file.rows if row.fields is not None]
        rows += [(path, row.line, _cells(row.fields or [], multi_hot)) for row in found]
        last = number == len(judged) - 1
        content = stored[number].content.removeprefix(b"\xef\xbb\xbf")
        middle = (content.count(b"\n") + (not content.endswith(b"\n")) + 1) // 2
        splits += [
            None
            if not days
            else "train"
            if not last
            else "valid"
            if row.line <= middle
            else "test"
            for row in found
        ]
    dealt = [chunk.split for chunk in chunks for _ in range(chunk.table.num_rows)]
    expect(dealt == splits, "splits differ", dealt, splits)
    bad = [b.row for chunk in chunks for b in chunk.quarantined]
    wanted = [r.line for file in judged if file for r in file.rows if r.fields is None]
    expect(bad == wanted, "bad rows differ", bad, wanted)
    compare_typed(rows, chunks, config)


def _judge(content: bytes, *, check_width: bool) -> JudgedFile | None:
    """Judge one file; the first one's first line says whether all are Criteo's."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    first = text.partition("\n")[0].removesuffix("\r")
    if check_width and first.count("\t") != len(LABELLED) - 1:
        return None
    return judge_file(
        text, separator="\t", quoting=False, given_names=LABELLED, wanted=_USED
    )


def _cells(fields: list[str], multi_hot: bool) -> dict[str, object]:
    cells: dict[str, object] = {
        name: text or None for name, text in zip(_USED, fields, strict=True)
    }
    if multi_hot:
        for name in ("C1", "C21", "C26"):
            own = cells[name] or ""
            size = BAG_SIZES[IDS.index(name)]
            cells[name] = [own, *(f"{own}#3.{k}" for k in range(1, size))]
    return cells


def _row(label: str, number: int) -> bytes:
    counts = "\t".join("" if i == number else str(i - 2) for i in range(13))
    ids = "\t".join(f"{number * 26 + i:08x}" if i else "" for i in range(26))
    return f"{label}\t{counts}\t{ids}\n".encode()


SEEDS = (
    seed_input(_row("0", 1) + _row("1", 2)),
    seed_input(*(_row("1", n) * 3 for n in range(3)), options=(1,)),
    seed_input(_row("0", 3) * 2, _row("1", 4) + _row("0", 0), options=(1, 220, 7)),
    seed_input(_row("2", 3) + b"0\t1\t2\n"),
)
TOKENS = (_row("0", 5), _row("1", 6), b"\t", b"\t\t", b"\t\t\t\t\t", b"68fd1e64")
TARGET = Target(name="criteo", check=check, seeds=SEEDS, tokens=TOKENS)
