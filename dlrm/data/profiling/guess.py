"""A role for every column of a table, guessed from its profile, with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from dlrm.config.delimiters import BRACKETS, delimiter_name
from dlrm.data.profiling.inspect import MAX_DISTINCT, ColumnProfile, TableProfile

MAX_SPARSE_INTEGERS = 32
"""Whole numbers with more different values are amounts, unless named as ids."""
_HASH_ROWS = 2_000_000
_ID_NAME = re.compile(
    r"(^|[_\s.\-])(id|ids|uid|uuid|guid|key|code|zip|zipcode|postcode|no|nr|sku)$"
    r"|[a-z](Id|ID)$|id$",
    re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_TIME_NAME = re.compile(r"(time|date|epoch)|(_at|_ts|^ts)$", re.IGNORECASE)
_GROUP_NAME = re.compile(
    r"(user|customer|visitor|member|session|query|account|profile|household)", re.I
)


class Role(Enum):
    """What a column is for."""

    label = "label"
    id = "id"
    time = "time"
    dense = "dense"
    sparse = "sparse"
    ignored = "not used"


@dataclass(frozen=True, slots=True)
class Guess:
    """A column's role, why, and the settings of its feature."""

    column: ColumnProfile
    role: Role
    reason: str
    settings: dict[str, object] = field(default_factory=dict)


def guess_roles(profile: TableProfile, *, label: str) -> list[Guess]:
    """Guess every column's role; at most one is the id, and one the time."""
    guesses: list[Guess] = []
    for column in profile.columns.values():
        if column.name == label:
            guesses.append(Guess(column, Role.label, "as you said"))
            continue
        guess = _guess(column, profile.num_rows)
        taken = any(other.role is guess.role for other in guesses)
        if guess.role in (Role.id, Role.time) and taken:
            guess = Guess(
                column, Role.ignored, f"{guess.reason}; another column is taken"
            )
        guesses.append(guess)
    return guesses


def guess_group(guesses: list[Guess]) -> str | None:
    """Name the column of the user or query that rows belong to, if one is named so."""
    for guess in guesses:
        column = guess.column
        one_hot = guess.role is Role.sparse and "multi_hot" not in guess.settings
        repeated = 10 < column.num_distinct < 0.8 * column.num_rows
        if one_hot and repeated and _GROUP_NAME.search(column.name):
            return column.name
    return None


def _guess(column: ColumnProfile, num_rows: int) -> Guess:
    if column.kind == "other":
        reason = f"{column.type_name} values, which no feature takes"
        return Guess(column, Role.ignored, reason)
    if column.num_distinct == 0:
        return Guess(column, Role.ignored, "every value is missing")
    if column.num_distinct == 1 and column.num_missing == 0:
        return Guess(column, Role.ignored, "constant")
    if column.kind == "list":
        return _guess_bag(column, num_rows)
    if column.kind == "date" or _is_epoch(column):
        return Guess(column, Role.time, "a time")
    id_like = column.kind in ("integer", "text") and num_rows >= 10
    named = _ID_NAME.search(column.name) is not None
    counts_rows = column.kind == "text" or named or column.increasing
    if column.is_unique and id_like and counts_rows:
        return Guess(column, Role.id, "a different value in every row")
    if column.kind in ("integer", "number"):
        is_amount = column.kind == "number" or not (named or column.leading_zeros)
        many = column.kind == "number" or column.num_distinct > MAX_SPARSE_INTEGERS
        if is_amount and many:
            return _guess_dense(column)
    return _guess_one_hot(column, num_rows)


def _is_epoch(column: ColumnProfile) -> bool:
    """Say whether whole numbers are seconds, or parts of them, since 1970."""
    if column.kind != "integer" or column.minimum < 3e8:
        return False
    recent = column.minimum >= 1e9 and column.maximum <= 2.2e9
    named = _TIME_NAME.search(column.name) is not None
    return named or (recent and not _ID_NAME.search(column.name))


def _guess_dense(column: ColumnProfile) -> Guess:
    settings: dict[str, object] = {}
    reason = "numbers"
    if column.num_missing:
        settings |= {"missing": "mean", "missing_indicator": True}
        reason = "numbers, some missing"
    if column.minimum >= 0 and column.skewness > 1:
        settings["log1p"] = True
        reason += ", with a long tail"
    return Guess(column, Role.dense, reason, settings)


def _guess_one_hot(column: ColumnProfile, num_rows: int) -> Guess:
    if all(_DECIMAL_COMMA.fullmatch(str(value)) for value in column.values):
        reason = "numbers with a decimal comma: write them with a point"
        return Guess(column, Role.ignored, reason)
    if column.kind == "text" and num_rows >= 100:
        if column.num_distinct > 0.8 * num_rows:
            reason = "almost every row has a value of its own"
            return Guess(column, Role.ignored, reason)
        if column.mean_length > 80 and column.num_distinct > 0.3 * num_rows:
            return Guess(column, Role.ignored, "free text")
    reason = "categories" if column.kind != "integer" else "whole numbers as categories"
    return Guess(column, Role.sparse, reason, _table_settings(column, num_rows))


def _guess_bag(column: ColumnProfile, num_rows: int) -> Guess:
    settings: dict[str, object] = {"multi_hot": True}
    reason = "lists"
    if column.delimiter is not None:
        settings["delimiter"] = delimiter_name(column.delimiter)
        reason = (
            "lists in brackets"
            if column.delimiter == BRACKETS
            else f"lists separated by {settings['delimiter']}"
        )
    return Guess(
        column, Role.sparse, reason, settings | _table_settings(column, num_rows)
    )


def _table_settings(column: ColumnProfile, num_rows: int) -> dict[str, object]:
    if column.num_distinct >= MAX_DISTINCT:
        return {"encoding": "hash", "num_embeddings": _HASH_ROWS}
    # A value seen once teaches its row nothing that the shared row should not learn.
    return {"min_frequency": 2 if num_rows < 100_000 else 5 if num_rows < 1e6 else 10}
