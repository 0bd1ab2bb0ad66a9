"""Bags in the forms that users hold them in, through the reader that takes them all."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.embeddings.bag_inputs import Bags, read_bags

CPU = torch.device("cpu")
Lists = list[list[int]]


def _flat(lists: Lists) -> torch.Tensor:
    return torch.tensor([i for bag in lists for i in bag], dtype=torch.int64)


def _offsets(lists: Lists) -> torch.Tensor:
    lengths = torch.tensor([0, *map(len, lists)])
    return lengths.cumsum(0)


def _padded(lists: Lists) -> Bags:
    width = max(map(len, lists))
    padded = [bag + [-1] * (width - len(bag)) for bag in lists]
    rows = torch.tensor(padded, dtype=torch.int64)
    lengths = torch.tensor(list(map(len, lists)))
    return read_bags(rows, lengths=lengths, device=CPU)


FORMS: dict[str, Callable[[Lists], Bags]] = {
    "offsets": lambda lists: read_bags(_flat(lists), _offsets(lists)[:-1], device=CPU),
    "offsets with the last": lambda lists: read_bags(
        _flat(lists), _offsets(lists), include_last_offset=True, device=CPU
    ),
    "padded rows": _padded,
    "lists": lambda lists: read_bags(lists, device=CPU),
    "pandas column": lambda lists: read_bags(
        pd.Series([bag or None for bag in lists]), device=CPU
    ),
}


def through(form: str, bags: KeyedJaggedTensor) -> KeyedJaggedTensor:
    """Return the bags of a batch, each feature's once in ``form`` and read back."""
    if form == "batch":
        return bags
    read = []
    for name in bags.keys():  # noqa: SIM118 - not a mapping
        values, lengths = bags[name].values(), bags[name].lengths().tolist()
        read.append(FORMS[form]([bag.tolist() for bag in values.split(lengths)]))
    return KeyedJaggedTensor(
        keys=bags.keys(),
        values=torch.cat([part.ids for part in read]),
        lengths=torch.cat([part.offsets.diff() for part in read]),
        stride=bags.stride(),
    )
