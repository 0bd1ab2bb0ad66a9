"""The slow judge of typed columns: one row at a time, one cell at a time.

Written from docs/data.md (Features, Bad rows) and the table in ``columns/typed.py``.
A cell is what a file or a DataFrame gives as a Python value; None is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from dlrm.config.data import SPLITS, DataConfig, Split
from dlrm.config.features import Encoding, Missing, SparseFeature

FLOAT32_MAX = (2 - 2.0**-23) * 2.0**127
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DIGITS = set("0123456789")


class BadCellError(Exception):
    """A cell that makes its row bad."""


@dataclass(frozen=True, slots=True)
class JudgedCells:
    """One row's typed values, or the first column that makes it bad."""

    values: dict[str, Any]
    bad_column: str | None = None


def judge_cells(cells: dict[str, Any], data: DataConfig) -> JudgedCells:
    """Judge one row of raw cells by column."""
    values: dict[str, Any] = {}
    for key, column, judge in _roles(data):
        try:
            values[key] = judge(cells)
        except BadCellError:
            return JudgedCells({}, column)
    return JudgedCells(values)


def _roles(data: DataConfig) -> Sequence[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = [
        ("label", data.label, lambda row: _label(row[data.label]))
    ]
    if (weight := data.weight_column) is not None:
        found.append(("weight", weight, lambda row: _weight(row[weight])))
    if (rate := data.keep_rate_column) is not None:
        found.append(("", rate, lambda row: _keep_rate(row[rate])))
    if data.split is Split.column and (split := data.split_column) is not None:
        found.append(("split", split, lambda row: _split(row[split])))
    if data.split is Split.time and (time := data.time_column) is not None:
        found.append(("time", time, lambda row: seconds(row[time])))
    for name, dense in data.dense_features.items():
        column = dense.column or name

        def judge(
            row: dict[str, Any], c: str = column, m: Missing = dense.missing
        ) -> float:
            value = number(row[c])
            if m is Missing.error and math.isnan(value):
                raise BadCellError
            return value

        found.append((f"dense:{name}", column, judge))
    for name, sparse in data.sparse_features.items():
        found += _sparse(name, sparse)
    return found


def _sparse(name: str, feature: SparseFeature) -> list[tuple[str, str, Any]]:
    column = feature.column or name
    if feature.encoding is Encoding.bucketize:
        return [(f"sparse:{name}", column, lambda row: number(row[column]))]
    if not feature.multi_hot:

        def one(row: dict[str, Any]) -> str:
            found = text_of(row[column])
            if feature.encoding is Encoding.identity and not _is_whole(found):
                raise BadCellError
            return found

        return [(f"sparse:{name}", column, one)]
    weights = feature.weight_column
    delimiter = feature.delimiter

    def both(row: dict[str, Any]) -> tuple[list[str], list[float] | None]:
        return _bag(
            cut(row[column], delimiter),
            None if weights is None else cut(row[weights], delimiter),
            feature.max_length,
        )

    def ids(row: dict[str, Any]) -> list[str]:
        found = both(row)[0]
        if feature.encoding is Encoding.identity and not all(map(_is_whole, found)):
            raise BadCellError
        return found

    roles = []
    if weights is not None:
        roles.append((f"weights:{name}", weights, lambda row: both(row)[1]))
    return [*roles, (f"sparse:{name}", column, ids)]


def _bag(
    ids: list[Any], weights: list[Any] | None, most: int | None
) -> tuple[list[str], list[float] | None]:
    texts = [text_of(value) for value in ids]
    if weights is None:
        return [text for text in texts if text][:most], None
    if len(weights) != len(texts):
        raise BadCellError
    pairs = []
    for text, weight in zip(texts, weights, strict=True):
        value = number(weight) if text else 0.0
        if math.isnan(value) or abs(value) > FLOAT32_MAX:
            raise BadCellError
        if text:
            pairs.append((text, value))
    return [text for text, _ in pairs[:most]], [value for _, value in pairs[:most]]


def cut(value: Any, delimiter: str | None) -> list[Any]:
    """Return the parts of a bag: a list's own, or text cut at its delimiter."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    text = text_of(value)
    if text == "":
        return []
    if delimiter != "brackets":
        separator = {"pipe": "|", "caret": "^"}.get(delimiter or "", delimiter or "")
        return list(text.split(separator))
    whole = text.strip(_RE2_SPACES)
    if whole[:1] in ("[", "(") and whole[-1:] in ("]", ")") and len(whole) > 1:
        text = whole[1:-1].rstrip(_RE2_SPACES)
        text = text.removesuffix(",")
    if not text.strip():
        return []
    return [part.strip(" \t\r\n'\"") for part in text.split(",")]


_RE2_SPACES = " \t\n\f\r"


def number(value: Any) -> float:
    """Return a finite number, NaN where missing."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return _number_of_text(value)
    if isinstance(value, (bool, int, float, Decimal)):
        found = float(value)
        if math.isinf(found):
            raise BadCellError
        return found
    raise BadCellError


def _number_of_text(text: str) -> float:
    text = text.strip()
    if not text or text.lower() == "nan":
        return math.nan
    mantissa, exponent = (
        re.split("[eE]", text, maxsplit=1) if re.search("[eE]", text) else (text, "0")
    )
    digits = mantissa[1:] if mantissa[:1] in ("+", "-") else mantissa
    power = exponent[1:] if exponent[:1] in ("+", "-") else exponent
    whole, _, part = digits.partition(".")
    if not (whole or part) or not set(whole + part) <= _DIGITS:
        raise BadCellError
    if not power or not set(power) <= _DIGITS:
        raise BadCellError
    found = float(text)
    if math.isinf(found):
        raise BadCellError
    return found


def text_of(value: Any) -> str:
    """Return canonical text: 17 for 17.0, true for True, "" for what is missing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        if abs(value) < 2.0**63 and value == math.trunc(value):
            return str(int(value))
        return repr(value)
    if isinstance(value, bytes):
        return value.decode()
    return str(value)


def _label(value: Any) -> float:
    found = number(value)
    if found not in (0.0, 1.0):
        raise BadCellError
    return found


def _weight(value: Any) -> float:
    found = number(value)
    if not 0 <= found <= FLOAT32_MAX:
        raise BadCellError
    return found


def _keep_rate(value: Any) -> None:
    found = number(value)
    if not math.isnan(found) and not 0 < found <= 1:
        raise BadCellError


def _split(value: Any) -> int:
    found = text_of(value)
    if found not in SPLITS:
        raise BadCellError
    return SPLITS.index(found)


def _is_whole(text: str) -> bool:
    digits = text[1:] if text[:1] in ("+", "-") else text
    whole, point, part = digits.partition(".")
    if text == "":
        return True
    return bool(whole) and set(whole) <= _DIGITS and (not point or set(part) <= {"0"})


_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?)?"
    r"(Z|z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)


def seconds(value: Any) -> float:
    """Return epoch seconds, NaN where missing."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return (aware - _EPOCH) / timedelta(seconds=1)
    if isinstance(value, date):
        return float((value - _EPOCH.date()).days * 86_400)
    if not isinstance(value, str):
        return number(value)
    try:
        return _number_of_text(value)
    except BadCellError:
        pass
    text = value.strip()
    found = _ISO.fullmatch(text)
    try:
        if found is None or (found[8] and not found[4]):
            moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        else:
            moment = _moment(*found.groups())
    except (ValueError, OverflowError) as error:
        raise BadCellError from error
    return seconds(moment)


def _moment(*parts: str | None) -> datetime:
    year, month, day, hour, minute, second, fraction, zone = parts
    zero = timedelta(0)
    shift = zero
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        shift = -shift if zone[0] == "-" else shift
    moment = datetime(
        int(year or 0),
        int(month or 0),
        int(day or 0),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        int((fraction or "").ljust(6, "0")),
        tzinfo=timezone(shift),
    )
    return moment
