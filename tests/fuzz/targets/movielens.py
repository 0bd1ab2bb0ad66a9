"""MovieLens's two layouts: ratings joined with movies and users."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from dlrm.config.data import BadRows, DataConfig, MovielensSource, SourceFormat
from dlrm.config.features import SparseFeature
from dlrm.data.sources import open_source
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.cells import BadCellError, number
from tests.fuzz.judges.text_rows import JudgedFile, judge_file
from tests.fuzz.judges.typed_rows import same_value
from tests.fuzz.script import PACKED_MAGIC, Script, seed_input, write
from tests.fuzz.targets.delimited import UTF16_MARKS

RATINGS = ("user_id", "movie_id", "rating", "timestamp")
MOVIES = ("movie_id", "title", "genres")
USERS = ("user_id", "gender", "age", "occupation", "zip")
PUBLISHED = {"user_id": "userId", "movie_id": "movieId"}


def check(data: bytes, folder: Path) -> None:
    """Read a folder of two or three files, and join them row by row."""
    script = Script(data)
    csv = script.byte() % 2 == 1
    drop = script.byte() % 2 == 0
    threshold = script.pick((3.0, 0.5))
    suffix = "csv" if csv else "dat"
    place = folder / "ml"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    contents = script.files[:3]
    for name, content in zip(("ratings", "movies", "users"), contents, strict=False):
        write(place / f"{name}.{suffix}", content)
    config = DataConfig(
        name="m",
        format=SourceFormat.movielens,
        source=str(place),
        movielens=MovielensSource(
            rating_threshold=threshold, drop_threshold_rating=drop
        ),
        sparse_features={"movie_id": SparseFeature()},
        bad_rows=BadRows.skip,
    )

    def read() -> tuple[list[Any], list[int]]:
        chunks = list(open_source(config).chunks())
        rows = [
            (line, row)
            for chunk in chunks
            for line, row in zip(
                chunk.rows.tolist(), chunk.table.to_pylist(), strict=True
            )
        ]
        return rows, [bad.row for chunk in chunks for bad in chunk.quarantined]

    found = answer(read)
    if any(content.startswith(PACKED_MAGIC) for content in contents):
        return
    judged = _judge(contents, csv, threshold, drop)
    if judged is None:
        expect(isinstance(found, Refused), "unsound files read", found)
        return
    expect(not isinstance(found, Refused), "sound files refused", found)
    expect(found[1] == judged[1], "bad rows differ", found, judged)
    expect(
        [r[0] for r in found[0]] == [r[0] for r in judged[0]],
        "rows differ",
        found,
        judged,
    )
    for (line, row), (_, wanted) in zip(found[0], judged[0], strict=True):
        same = all(same_value(row[key], value) for key, value in wanted.items())
        expect(same and len(row) == len(wanted), "values differ", line, row, wanted)
    config.bad_rows = BadRows.error
    first = answer(read)
    expect(isinstance(first, Refused) == bool(judged[1]), "another verdict", first)
    if judged[1]:
        places = [f"ratings.{suffix}, line {line}: the row " for line in judged[1]]
        named = any(place in first.message for place in places)
        expect(named, "another place", first, judged[1])


def _judge(
    contents: list[bytes], csv: bool, threshold: float, drop: bool
) -> tuple[list[Any], list[int]] | None:
    if len(contents) < 2:
        return None
    # Only MovieLens 1M, in .dat files, has users.
    with_users = len(contents) > 2
    ratings = _file(contents[0], RATINGS, csv, latin=True)
    movies = _side(contents[1], MOVIES, csv)
    users = _side(contents[2], USERS, csv) if with_users else {}
    if ratings is None or movies is None or users is None:
        return None
    rows: list[Any] = []
    bad: list[int] = []
    first = 2 if csv else 1
    for row in ratings.rows:
        joined = None
        if row.fields is not None:
            joined = _join(row.fields, movies, users if with_users else None, threshold)
        if joined is None:
            bad.append(row.line)
        elif not drop or joined["rating"] != threshold:
            rows.append((row.line, {**joined, "rating_row": row.line - first}))
    return rows, bad


def _join(
    fields: list[str],
    movies: dict[str, list[str]],
    users: dict[str, list[str]] | None,
    threshold: float,
) -> dict[str, Any] | None:
    user, movie, rating_text, time = (text or None for text in fields)
    try:
        rating = number(rating_text)
        moment = None if time in (None, "0") else number(time)
    except BadCellError:
        return None
    if math.isnan(rating) or (moment is not None and not abs(moment) < 2.0**63):
        return None
    joined: dict[str, Any] = {
        "label": int(rating > threshold),
        "rating": rating,
        "user_id": user,
        "movie_id": movie,
        "timestamp": None if moment is None else math.floor(moment),
    }
    if users is not None:
        found = users.get(user or "")
        if found is None:
            return None
        joined |= {k: v or None for k, v in zip(USERS[1:], found, strict=True)}
    found = movies.get(movie or "")
    if found is None:
        return None
    title, genres = found
    year = re.search(r"\((\d{4})[^()]*\)[\t\n\f\r ]*\Z", title, re.ASCII)
    joined["title"] = title or None
    joined["release_year"] = year[1] if year else None
    joined["genres"] = None if genres in ("", "(no genres listed)") else genres
    return joined


def _side(
    content: bytes, names: tuple[str, ...], csv: bool
) -> dict[str, list[str]] | None:
    """Return rows by key; None where one is bad, a key comes twice, or all lack."""
    judged = _file(content, names, csv, latin=False)
    if judged is None or not judged.rows:
        return None
    found: dict[str, list[str]] = {}
    for row in judged.rows:
        if row.fields is None or row.fields[0] in ("", *found):
            return None
        found[row.fields[0]] = row.fields[1:]
    return found


def _file(
    content: bytes, names: tuple[str, ...], csv: bool, *, latin: bool
) -> JudgedFile | None:
    latin = latin or not _is_utf8(content)
    if (csv or not latin) and content.startswith(UTF16_MARKS):
        return None
    if csv or not latin:
        text = content.decode("utf-8", "surrogateescape")
    else:
        text = content.decode("latin-1")
    published = tuple(PUBLISHED.get(name, name) for name in names) if csv else names

    def judge(wanted: tuple[str, ...] | None) -> JudgedFile | None:
        return judge_file(
            text,
            separator="," if csv else "::",
            quoting=csv,
            given_names=None if csv else names,
            wanted=wanted,
        )

    whole = judge(None)
    if whole is None or not set(published) <= set(whole.names):
        return None
    return judge(published)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


_DAT = (
    b"1::10::5::978300760\n2::20::3::0\n1::20::2::978300761\n",
    b"10::Toy Story (1995)::Animation|Comedy\n20::Caf\xe9::(no genres listed)\n",
    b"1::F::1::10::48067\n2::M::56::16::70072\n",
)
_CSV = (
    b"userId,movieId,rating,timestamp\n1,10,4.5,12\n1,20,3.0,\n",
    b'movieId,title,genres\n10,"A, B (1999)",Drama\n20,C,(no genres listed)\n',
)
TARGET = Target(
    name="movielens",
    check=check,
    seeds=(
        seed_input(*_DAT),
        seed_input(*_DAT[:2]),
        seed_input(*_CSV, options=(1,)),
        seed_input(*_CSV, options=(1, 1, 1)),
        seed_input(_DAT[0], _DAT[1].replace(b"\xe9", b"\xc3\xa9"), _DAT[2]),
    ),
    tokens=(b"::", b"10", b"20", b"(1995)", b"0", b"1::10::", *_DAT[0].splitlines()),
)
