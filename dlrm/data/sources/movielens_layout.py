"""MovieLens's two layouts: ``.dat`` files of 1M and 10M, CSV files of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlrm.config.errors import DataError
from dlrm.data.sources.dialect import Dialect
from dlrm.data.sources.files import InputFile

_DAT = Dialect(separator="::", quoting=False, encoding="latin-1")
_CSV = Dialect()
_PUBLISHED = {"user_id": "userId", "movie_id": "movieId"}
RATING_COLUMNS = ("user_id", "movie_id", "rating", "timestamp")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one MovieLens data set are, and how they are written."""

    ratings: Path
    movies: Path
    users: Path | None

    @property
    def has_header(self) -> bool:
        """Say whether the files name their columns, as the CSV layout does."""
        return ".csv" in self.ratings.suffixes

    @property
    def ratings_dialect(self) -> Dialect:
        """How the ratings are written; in both layouts the columns get our names."""
        return self.side_dialect(self.ratings, RATING_COLUMNS)

    @property
    def rating_columns(self) -> tuple[str, ...]:
        """Columns of the ratings, as the file names them."""
        return self.published_names(RATING_COLUMNS)

    def side_dialect(self, path: Path, names: tuple[str, ...]) -> Dialect:
        """Return how ``path`` is written: of ``.dat``, 1M is latin-1, 10M UTF-8."""
        if self.has_header:
            return _CSV
        dialect = dataclasses.replace(_DAT, column_names=names)
        if path != self.ratings and _is_utf8(path):
            return dataclasses.replace(dialect, encoding="utf-8")
        return dialect

    def published_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the files call the columns ``names``."""
        if not self.has_header:
            return names
        return tuple(_PUBLISHED.get(name, name) for name in names)


def find_layout(files: Sequence[Path]) -> Layout:
    """Find ratings, movies and, in 1M, users among or beside ``files``.

    Raises:
        DataError: There is no ratings file, or no movies file beside it.
    """
    folder = files[0].parent
    present = {path.name: path for path in (*folder.iterdir(), *files)}
    for suffix in (".dat", ".csv"):
        ratings = _find(present, "ratings", suffix)
        if ratings is None:
            continue
        movies = _find(present, "movies", suffix)
        if movies is None:
            raise DataError(
                f"{folder} must hold movies{suffix} beside {ratings.name}, but it does "
                "not. Copy it there."
            )
        return Layout(ratings, movies, _find(present, "users", suffix))
    raise DataError(
        "data.source must be a folder with MovieLens's ratings.dat or ratings.csv, "
        f"but {folder} holds {', '.join(sorted(present)[:8])}. Unzip the file that "
        "GroupLens publishes and name the folder that it makes."
    )


def _find(present: dict[str, Path], stem: str, suffix: str) -> Path | None:
    return present.get(f"{stem}{suffix}") or present.get(f"{stem}{suffix}.gz")


def _is_utf8(path: Path) -> bool:
    with InputFile(path) as file:
        try:
            file.read(1 << 26).decode()
        except UnicodeDecodeError:
            return False
    return True
