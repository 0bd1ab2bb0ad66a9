"""What ids, offsets and weights of bags must be, and the errors where they are not."""

from __future__ import annotations

import torch

from dlrm.config.errors import DataError


def check_ids(ids: torch.Tensor) -> None:
    """Refuse ids that are no whole numbers.

    Raises:
        DataError: Their type is not int32 or int64.
    """
    if ids.dtype not in (torch.int32, torch.int64):
        example = f", such as {ids.flatten()[0].item()}" if ids.numel() else ""
        raise DataError(
            f"Ids must be whole numbers, int32 or int64, but they are "
            f"{_name(ids.dtype)}{example}. Convert them with .long()."
        )


def check_offsets(offsets: torch.Tensor, *, num_ids: int, ends_at_last: bool) -> None:
    """Refuse offsets that do not cut ``num_ids`` ids into bags.

    Raises:
        DataError: They do not start at 0, descend, or end at another place than
            ``num_ids`` (where ``ends_at_last``) or beyond it.
    """
    problem = None
    if offsets.ndim != 1 or offsets.dtype not in (torch.int32, torch.int64):
        shape = tuple(offsets.shape)
        problem = f"they are {_name(offsets.dtype)} of shape {shape}"
    elif offsets.numel() == 0:
        problem = "there are none" if ends_at_last or num_ids else None
    elif int(offsets[0]) != 0:
        problem = f"they start at {int(offsets[0])}"
    elif bool((offsets.diff() < 0).any()):
        place = int((offsets.diff() < 0).nonzero()[0])
        first, second = offsets[place : place + 2].tolist()
        problem = f"bag {place} goes from {first} to {second}"
    elif int(offsets[-1]) > num_ids:
        problem = f"they end at {int(offsets[-1])}"
    elif ends_at_last and int(offsets[-1]) != num_ids:
        problem = (
            f"they end at {int(offsets[-1])}, although include_last_offset promises "
            f"the number of ids as the last one"
        )
    if problem:
        raise DataError(
            f"Offsets must be whole numbers [B] that start at 0, do not descend and "
            f"end within the {num_ids} ids, but {problem}."
        )


def check_weights(weights: torch.Tensor | None, *, num_ids: int) -> None:
    """Refuse weights that do not fit the ids.

    Raises:
        DataError: There is not one number an id, or the numbers are no floats.
    """
    if weights is None:
        return
    if weights.shape != (num_ids,):
        raise DataError(
            f"There must be one weight an id, {num_ids} in all, but the weights' shape "
            f"is {tuple(weights.shape)}."
        )
    if not weights.is_floating_point():
        raise DataError(
            f"Weights must be floating-point numbers, but they are "
            f"{_name(weights.dtype)}. Convert them with .float()."
        )


def check_range(
    ids: torch.Tensor, *, num_embeddings: int, offsets: torch.Tensor | None = None
) -> None:
    """Refuse ids that the table does not have, naming the first one's place.

    Args:
        ids: Any shape; [N] with offsets.
        num_embeddings: Rows of the table.
        offsets: [B + 1] starts of bags.

    Raises:
        DataError: An id is below 0 or not below ``num_embeddings``.
    """
    bad = ((ids < 0) | (ids >= num_embeddings)).nonzero()
    if len(bad) == 0:
        return
    first = tuple(bad[0].tolist())
    if offsets is None:
        place = f"at {list(first)} " if first else ""
    else:
        row = int(torch.searchsorted(offsets, bad[0, 0], right=True)) - 1
        place = f"in row {row}, place {first[0] - int(offsets[row])} "
    raise DataError(
        f"Ids must be from 0 to {num_embeddings - 1}, but {place}there is "
        f"{int(ids[first])}. Map unknown ids to a row of their own, or raise "
        f"num_embeddings."
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
