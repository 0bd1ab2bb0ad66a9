"""Which rows of a table are alike, and what a table holds.

Shape suffixes: N = ids of the table, D = width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean
from dlrm.data.transforms.table_keys import NO_ROW
from dlrm.table_vectors import TableVectors

_ROWS_PER_CHUNK = 65_536
_MOST_SEARCHED = 20_000
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class FoundKey:
    """The row that a text stands for."""

    row: int
    name: str
    notes: tuple[str, ...] = ()
    """What the user should know of how it was found."""


def find_key(loaded: TableVectors, text: str) -> FoundKey:
    """Return the row of a raw value.

    A text without a row of its own stands for the commonest key that begins with it as
    a whole word, as 'Toy Story' begins 'Toy Story (1995)'; the notes say so.

    Raises:
        ConfigError: There is none.
    """
    row = int(loaded.keys.rows_of(pa.array([text], pa.large_string()))[0])
    if row == NO_ROW:
        return _begun_by(loaded, text)
    notes: tuple[str, ...] = ()
    if loaded.keys.shared and loaded.names(np.array([row]))[0] != text:
        notes = (f"'{text}' shares row {row:,} with all values that fall there.",)
    return FoundKey(row, text, notes)


def nearest_rows(loaded: TableVectors, key: FoundKey, *, top: int) -> pd.DataFrame:
    """Return the ``top`` rows by cosine, equal ones in order of their rows.

    Raises:
        ConfigError: The key's own vector is zero.
    """
    norms = norms_of(loaded.vectors)
    if norms[key.row] == 0:
        raise ConfigError(
            f"near must name a row whose vector is not zero, but that of "
            f"'{key.name}' is. It was never trained, or stands for padding."
        )
    cosines = _cosines(loaded.vectors, norms, key.row)
    cosines[key.row] = -np.inf
    chosen = np.argsort(-cosines, kind="stable")[:top]
    chosen = chosen[np.isfinite(cosines[chosen])]
    counts = loaded.keys.counts
    return pd.DataFrame(
        {
            "key": loaded.names(chosen),
            "row": chosen,
            "cosine": cosines[chosen],
            "count": pd.Series(
                [_count(counts, row) for row in chosen.tolist()], dtype=object
            ),
        }
    )


def summarize(loaded: TableVectors) -> dict[str, str]:
    """Return what a table holds, line by line."""
    norms = norms_of(loaded.vectors)
    unique = np.unique(np.ascontiguousarray(loaded.vectors), axis=0)
    lines = {
        "table": f"{loaded.table} of {loaded.checkpoint}",
        "values": f"{len(loaded):,}, encoded by {loaded.keys.encoding.value}",
        "rows": f"{loaded.num_rows:,} of width {loaded.vectors.shape[1]}, "
        f"{loaded.dtype}",
        "norms": f"least {norms.min():.4g}, median {np.median(norms):.4g}, greatest "
        f"{norms.max():.4g}; {int((norms == 0).sum()):,} of zero",
        "equal": f"{len(loaded) - len(unique):,} vectors equal to another",
    }
    if loaded.untrained is None:
        lines["never trained"] = "not known: the optimizer keeps no state"
    else:
        lines["never trained"] = f"{int(loaded.untrained.sum()):,} rows"
    first = np.arange(min(len(loaded), 5))
    lines["first keys"] = ", ".join(repr(name) for name in loaded.names(first))
    return lines


def norms_of(vectors: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm of each vector, float64 [N]."""
    norms = np.empty(len(vectors))
    for start in range(0, len(vectors), _ROWS_PER_CHUNK):
        part = vectors[start : start + _ROWS_PER_CHUNK].astype(np.float64)
        norms[start : start + len(part)] = np.linalg.norm(part, axis=1)
    return norms


def _cosines(vectors: np.ndarray, norms: np.ndarray, row: int) -> np.ndarray:
    """Return each vector's cosine with that of ``row``; -inf for vectors of zeros."""
    query = vectors[row].astype(np.float64) / norms[row]
    cosines = np.full(len(vectors), -np.inf)
    for start in range(0, len(vectors), _ROWS_PER_CHUNK):
        part = vectors[start : start + _ROWS_PER_CHUNK].astype(np.float64)
        own = norms[start : start + len(part)]
        known = own > 0
        products = part[known] @ query
        cosines[start : start + len(part)][known] = products / own[known]
    return cosines


def _begun_by(loaded: TableVectors, text: str) -> FoundKey:
    keys = loaded.keys.keys
    pattern = f"(?i)^{_escaped(text)}([^[:alnum:]]|$)"
    matches = pc.fill_null(pc.match_substring_regex(keys, pattern), False)
    rows = np.flatnonzero(matches.to_numpy(zero_copy_only=False))
    if not text or rows.size == 0:
        raise _not_found(loaded, text, keys)
    # Of a vocabulary the first rows are the commonest values.
    first, *others = loaded.names(rows[: _MOST_NAMED + 1])
    note = f"No row is called '{text}': took '{first}', which begins so"
    if others:
        more = f", and {rows.size - 1 - len(others)} more" * (rows.size > 4)
        note += "; so do " + ", ".join(f"'{name}'" for name in others) + more
    return FoundKey(int(rows[0]), first, (f"{note}.",))


def _not_found(loaded: TableVectors, text: str, keys: pa.Array) -> ConfigError:
    holding = pc.fill_null(
        pc.match_substring(keys, text, ignore_case=True), bool(not text)
    )
    found = keys.filter(holding).drop_null()[:_MOST_NAMED].to_pylist()
    hint = f" Keys that hold it: {', '.join(map(repr, found))}." if found else ""
    if not found:
        # The commonest ones: a search through millions would take minutes.
        hint = did_you_mean(text, keys[:_MOST_SEARCHED].drop_null().to_pylist())
    return ConfigError(
        f"near must be a raw value with a row in table '{loaded.table}', but "
        f"'{text}' has none.{hint} dlrm embeddings without near shows some keys."
    )


def _escaped(text: str) -> str:
    """Return text as a regular expression of RE2, in which ``_`` takes no backslash."""
    kept = (c.isalnum() or c == "_" or not c.isascii() for c in text)
    return "".join(c if k else f"\\{c}" for c, k in zip(text, kept, strict=True))


def _count(counts: np.ndarray | None, row: int) -> int | None:
    return None if counts is None or counts[row] < 0 else int(counts[row])
