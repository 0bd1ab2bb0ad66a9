"""Lists of lists, and pandas columns of lists, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch

from dlrm.config.errors import DataError

Lists: TypeAlias = Sequence[Sequence[float] | np.ndarray | None] | pd.Series


@dataclass(frozen=True, slots=True)
class FlatLists:
    """The lists' members in a row, and how many each list has."""

    flat: torch.Tensor
    lengths: list[int]


def flatten_lists(lists: Lists | torch.Tensor, what: str) -> FlatLists:
    """Put the members of all lists in a row; ``what`` is "ids" or "weights".

    A list may be an array, or missing, which makes it empty. Weights become floats.

    Raises:
        DataError: A row is no list, or a member no plain number.
    """
    rows = [_row(bag, place, what) for place, bag in enumerate(lists)]
    lengths = [len(row) for row in rows]
    if not any(lengths):
        empty = torch.int64 if what == "ids" else torch.float32
        return FlatLists(torch.empty(0, dtype=empty), lengths)
    try:
        flat = torch.tensor(list(chain.from_iterable(rows)))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"Lists of {what} must hold plain numbers, but they hold others: {error}."
        ) from error
    whole = not flat.is_floating_point()
    return FlatLists(flat.float() if whole and what == "weights" else flat, lengths)


def _row(bag: object, place: int, what: str) -> Sequence[object]:
    if isinstance(bag, (list, tuple)):
        return bag
    if isinstance(bag, (np.ndarray, torch.Tensor)) and bag.ndim == 1:
        members: list[object] = bag.tolist()
        return members
    missing = bag is None or bag is pd.NA or (isinstance(bag, float) and bag != bag)
    if missing:
        return []
    raise DataError(
        f"Every row of a column of {what} must be a list, or missing, but row {place} "
        f"is {bag!r}. For ids in a row, give offsets or lengths."
    )
