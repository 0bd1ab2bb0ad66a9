"""MovieLens's files as published: ratings joined with their users and movies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.data import BadRows, DataConfig, MovielensSource
from dlrm.config.errors import DataError
from dlrm.data.columns.parse_numbers import number_of
from dlrm.data.columns.shown import shown
from dlrm.data.sources.chunk import MEND_OR_SKIP, BadRow, Chunk
from dlrm.data.sources.delimited import read_delimited
from dlrm.data.sources.files import file_identity, resolve_files
from dlrm.data.sources.movielens_layout import RATING_COLUMNS, Layout, find_layout
from dlrm.data.sources.needed import needed_columns

_YEAR_OF_TITLE = r"\((?P<year>\d{4})[^()]*\)\s*$"
_NO_GENRES = "(no genres listed)"
_MOVIE_COLUMNS = ("title", "release_year", "genres")
_USER_COLUMNS = ("gender", "age", "occupation", "zip")


class MovielensRatings:
    """Ratings as clicks, in file order.

    Columns: ``label`` (1 for a rating above the threshold), ``rating``, ``user_id``,
    ``movie_id``, ``title``, ``release_year`` (from the title), ``genres`` (cut by
    ``|``), ``timestamp`` (null where the file has 0), ``rating_row`` (place in the
    ratings file, from 0), and, in the 1M layout, ``gender``, ``age``, ``occupation``
    and ``zip``.
    """

    def __init__(self, data: DataConfig, *, with_labels: bool) -> None:
        """Find the files.

        Raises:
            DataError: The folder has no ratings file, or the config names columns that
                this layout does not have.
        """
        self._data = data
        self._options = data.movielens or MovielensSource()
        self._layout = find_layout(resolve_files(data.source))
        self._drop = with_labels and self._options.drop_threshold_rating
        self._check_columns(with_labels)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the ratings, those at the threshold left out where that is asked for.

        Raises:
            DataError: A row is not sound, or names a user or movie that has no row.
        """
        movies, users = self._read_movies(), self._read_users()
        first_line = 2 if self._layout.has_header else 1
        chunks = read_delimited(
            [self._layout.ratings],
            self._layout.ratings_dialect,
            columns=self._layout.rating_columns,
            bad_rows=self._data.bad_rows,
        )
        for chunk in chunks:
            yield self._join(chunk, movies, users, first_line)

    def identity(self) -> dict[str, Any]:
        """Return the files' identities."""
        layout = self._layout
        files = [
            layout.ratings,
            layout.movies,
            *([layout.users] if layout.users else []),
        ]
        return {"files": [file_identity(path) for path in files]}

    def _check_columns(self, with_labels: bool) -> None:
        needed = needed_columns(self._data, with_labels=with_labels).required
        users = _USER_COLUMNS if self._layout.users is not None else ()
        found = ["label", "rating", "user_id", "movie_id", *users, *_MOVIE_COLUMNS]
        found += ["timestamp", "rating_row"]
        missing = [name for name in needed if name not in found]
        if not missing:
            return
        hint = ""
        if set(missing) <= set(_USER_COLUMNS):
            hint = " Only MovieLens 1M has users: choose data=movielens_csv."
        raise DataError(
            f"{self._layout.ratings.parent} must have the columns "
            f"{', '.join(missing)}, but this MovieLens layout has "
            f"{', '.join(found)}.{hint}"
        )

    def _join(
        self, chunk: Chunk, movies: pa.Table, users: pa.Table | None, first_line: int
    ) -> Chunk:
        table = chunk.table.combine_chunks().rename_columns(list(RATING_COLUMNS))
        faults: dict[int, str] = {}
        rating = _numbers(table["rating"], "a rating", faults)
        time = _timestamps(table["timestamp"], faults)
        columns: dict[str, Any] = {
            "label": pc.greater(rating, self._options.rating_threshold).cast(pa.int8()),
            "rating": rating,
            "user_id": table["user_id"],
            "movie_id": table["movie_id"],
        }
        sides = (
            (users, "user_id", self._layout.users),
            (movies, "movie_id", self._layout.movies),
        )
        for side, key, path in sides:
            if side is not None and path is not None:
                place = pc.index_in(table[key], value_set=side[key])
                for row in np.flatnonzero(pc.is_null(place).to_numpy()).tolist():
                    came = table[key][row].as_py()
                    faults[row] = (
                        f"has {key} {shown(came)}, which has no row in {path.name}"
                    )
                for name in side.column_names[1:]:
                    columns[name] = side[name].take(place)
        columns["timestamp"] = time
        columns["rating_row"] = pa.array(chunk.rows - first_line)
        return self._select(chunk, pa.table(columns), faults)

    def _select(self, chunk: Chunk, table: pa.Table, faults: dict[int, str]) -> Chunk:
        bad = tuple(
            BadRow(chunk.file, int(chunk.rows[row]), faults[row])
            for row in sorted(faults)
        )
        if bad and self._data.bad_rows is BadRows.error:
            raise DataError(
                f"{chunk.file}, line {bad[0].row}: the row {bad[0].reason}. "
                f"{MEND_OR_SKIP}"
            )
        keep = np.ones(table.num_rows, dtype=bool)
        keep[list(faults)] = False
        if self._drop:
            rating = table["rating"].to_numpy()
            keep &= rating != self._options.rating_threshold
        quarantined = sorted((*chunk.quarantined, *bad), key=lambda row: row.row)
        return Chunk(
            table.filter(pa.array(keep)),
            chunk.file,
            chunk.rows[keep],
            progress=chunk.progress,
            quarantined=tuple(quarantined),
        )

    def _read_movies(self) -> pa.Table:
        layout = self._layout
        table = _read_whole(layout.movies, layout, ("movie_id", "title", "genres"))
        year = pc.struct_field(pc.extract_regex(table["title"], _YEAR_OF_TITLE), "year")
        listed = pc.not_equal(table["genres"], _NO_GENRES)
        genres = pc.if_else(pc.fill_null(listed, False), table["genres"], None)
        columns = [table["movie_id"], table["title"], year, genres]
        return pa.table(columns, names=["movie_id", *_MOVIE_COLUMNS])

    def _read_users(self) -> pa.Table | None:
        layout = self._layout
        if layout.users is None:
            return None
        return _read_whole(layout.users, layout, ("user_id", *_USER_COLUMNS))


def _read_whole(path: Path, layout: Layout, names: tuple[str, ...]) -> pa.Table:
    dialect = layout.side_dialect(path, names)
    published = layout.published_names(names)
    parts = [
        chunk.table for chunk in read_delimited([path], dialect, columns=published)
    ]
    if not parts:
        raise DataError(f"{path} must have rows, but it has none.")
    table = pa.concat_tables(parts).combine_chunks().rename_columns(list(names))
    key = table[names[0]]
    if key.null_count:
        raise DataError(
            f"{path} must have a {names[0]} in every row, but {key.null_count:,} rows "
            "have none. Mend the file, or download it again."
        )
    if pc.count_distinct(key).as_py() != len(key):
        counts = pc.value_counts(key)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
        raise DataError(
            f"{path} must have one row for each {names[0]}, but {twice} has several."
        )
    return table


def _note(faults: dict[int, str], mask: pa.ChunkedArray, reason: str) -> None:
    rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    faults.update({int(row): reason for row in rows})


def _numbers(texts: pa.ChunkedArray, what: str, faults: dict[int, str]) -> pa.Array:
    """Parse numbers; a text that is none is noted as its row's fault."""
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        values = [number_of(text or "") for text in texts.to_pylist()]
        numbers = pa.chunked_array([pa.array(values, pa.float64())])
    finite = pc.fill_null(pc.is_finite(numbers), False)
    _note(faults, pc.invert(finite), f"must have {what} that is a number")
    return numbers


def _timestamps(texts: pa.ChunkedArray, faults: dict[int, str]) -> pa.Array:
    """Parse seconds; 0 and nothing at all mean that the time is not known."""
    known = pc.fill_null(pc.not_equal(texts, "0"), False)
    mine: dict[int, str] = {}
    numbers = _numbers(pc.if_else(known, texts, "0"), "a timestamp", mine)
    # Beyond this a second has no number of 64 bits: the cast would make one up.
    _note(
        mine, pc.greater_equal(pc.abs(numbers), 2.0**63), "must have a true timestamp"
    )
    faults.update(mine)
    whole = pc.floor(numbers).cast(pa.int64(), safe=False)
    return pc.if_else(known, whole, pa.scalar(None, pa.int64()))
