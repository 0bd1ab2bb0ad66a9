"""Does a text column hold several ids a row, and what separates them?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dlrm.config.delimiters import BRACKETS

_CANDIDATES = ("|", ";", "^", ",", " ")
_BRACKETED = re.compile(r"\s*(\[.*\]|\(.*\))\s*", re.DOTALL)
_MIN_SHARE = 0.2
"""Of the rows, that must hold the delimiter."""
_MAX_TOKEN_LENGTH = 24
_MAX_EMPTY = 0.05


def find_delimiter(texts: Sequence[str]) -> str | None:
    """Return the delimiter that cuts ``texts`` into short, repeated ids.

    A list has fewer different ids than different rows; what has a fixed number of
    parts, each with its own vocabulary (``Paris, France``), is no list.
    """
    if texts and all(_BRACKETED.fullmatch(text) for text in texts):
        return BRACKETS
    for delimiter in _CANDIDATES:
        if _cuts_into_bags(texts, delimiter):
            return delimiter
    return None


def _cuts_into_bags(texts: Sequence[str], delimiter: str) -> bool:
    several = sum(delimiter in text for text in texts)
    if several < max(2, _MIN_SHARE * len(texts)):
        return False
    bags = [text.split(delimiter) for text in texts]
    tokens = [token for bag in bags for token in bag]
    distinct = set(tokens)
    # Words of a language are separated by spaces, too: ids must come far more often.
    most = 0.5 if delimiter == " " else 1.0
    if len(distinct) >= most * len(set(texts)) or len(distinct) > 0.5 * len(tokens):
        return False
    if tokens.count("") > _MAX_EMPTY * len(tokens):
        return False
    if sum(map(len, distinct)) > _MAX_TOKEN_LENGTH * len(distinct):
        return False
    return _is_ragged(bags) or _parts_are_alike(bags, delimiter)


def _is_ragged(bags: Sequence[list[str]]) -> bool:
    return len({len(bag) for bag in bags}) > 1


def _parts_are_alike(bags: Sequence[list[str]], delimiter: str) -> bool:
    if delimiter == "," and len(bags[0]) == 2 and all(_is_digits(bag) for bag in bags):
        return False  # 3,14: a decimal comma.
    first, last = {bag[0] for bag in bags}, {bag[-1] for bag in bags}
    return len(first & last) > 0.2 * min(len(first), len(last))


def _is_digits(bag: list[str]) -> bool:
    return all(token.strip().lstrip("+-").isdecimal() for token in bag)
