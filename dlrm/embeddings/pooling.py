"""Every pooling of ``Pooling``: from the rows or row sums of bags to one vector each.

Bag b holds the ids from ``offsets[b]`` to ``offsets[b + 1]``. Gradients reach rows,
weights and query.

Shape suffixes: B = bags, N = ids of all bags, D = width.
"""

from __future__ import annotations

import math

import torch

from dlrm.config.errors import DataError
from dlrm.config.features import Pooling
from dlrm.embeddings.segment_max import segment_max

_LARGEST_EXPONENT = 60.0


def scale_sums(
    sums_BD: torch.Tensor,
    *,
    offsets: torch.Tensor,
    weights_N: torch.Tensor | None,
    pooling: Pooling,
) -> torch.Tensor:
    """Return a linear pooling's vectors, [B, D], from the weighted sums of the rows.

    A bag whose divisor is 0 (it is empty, or its weights add up to 0) becomes zeros.
    """
    if pooling not in (Pooling.mean, Pooling.sqrtn):
        return sums_BD
    mean = pooling is Pooling.mean
    if weights_N is None:
        lengths = offsets.diff().to(sums_BD.dtype)
        divisors = lengths if mean else lengths.sqrt()
    elif mean:
        divisors = bag_sums(weights_N, offsets)
    else:
        divisors = _safe_sqrt(bag_sums(weights_N.square(), offsets))
    return _divide(sums_BD, divisors[:, None])


def pool_rows(
    rows_ND: torch.Tensor,
    *,
    offsets: torch.Tensor,
    weights_N: torch.Tensor | None,
    pooling: Pooling,
    query_D: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return each bag's vector, [B, D], from its rows one by one.

    Args:
        rows_ND: The looked-up rows.
        offsets: [B + 1] starts of the bags, and N.
        weights_N: Factors of the rows; 1 where None.
        pooling: Any.
        query_D: For attention.

    Raises:
        DataError: A weight is below 0 under attention.
    """
    if pooling is Pooling.attention:
        assert query_D is not None
        factors = attention_factors(
            rows_ND @ query_D / math.sqrt(rows_ND.shape[1]), offsets, weights_N
        )
        return bag_sums(rows_ND * factors[:, None], offsets)
    if weights_N is not None:
        rows_ND = rows_ND * weights_N[:, None]
    if pooling is Pooling.max:
        return segment_max(rows_ND, offsets)
    sums = bag_sums(rows_ND, offsets)
    return scale_sums(sums, offsets=offsets, weights_N=weights_N, pooling=pooling)


def attention_factors(
    scores_N: torch.Tensor, offsets: torch.Tensor, weights_N: torch.Tensor | None
) -> torch.Tensor:
    """Return [N] factors that sum to 1 in a bag, proportional to w exp(score).

    They are 0 where all weights of the bag are 0.

    Raises:
        DataError: A weight is below 0.
    """
    bag_N = bag_of_id(offsets, scores_N.shape[0])
    counted = scores_N.detach()
    if weights_N is not None:
        _refuse_negative(weights_N, bag_N)
        counted = counted.masked_fill(weights_N == 0, -math.inf)
    top_B = counted.new_full((offsets.numel() - 1,), -math.inf)
    top_B = top_B.scatter_reduce(0, bag_N, counted, "amax")
    # Only ids of weight 0, whose factor is 0 all the same, can lie above the top.
    top_B = top_B.masked_fill(top_B == -math.inf, 0.0)
    exponents = (scores_N - top_B[bag_N]).clamp(max=_LARGEST_EXPONENT)
    terms = exponents.exp() if weights_N is None else exponents.exp() * weights_N
    return _divide(terms, bag_sums(terms, offsets)[bag_N])


def bag_sums(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return the sums over each bag of ``values``, [N] or [N, D]."""
    bag_N = bag_of_id(offsets, values.shape[0])
    sums = values.new_zeros(offsets.numel() - 1, *values.shape[1:])
    return sums.index_add(0, bag_N, values)


def bag_of_id(offsets: torch.Tensor, num_ids: int) -> torch.Tensor:
    """Return the bag that each id lies in, [N]."""
    bags = torch.arange(offsets.numel() - 1, device=offsets.device)
    return bags.repeat_interleave(offsets.diff(), output_size=num_ids)


def _divide(values: torch.Tensor, divisors: torch.Tensor) -> torch.Tensor:
    """Return values / divisors, and 0 with a gradient of 0 where the divisor is 0."""
    zero = divisors == 0
    return (values / divisors.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)


def _safe_sqrt(squares: torch.Tensor) -> torch.Tensor:
    zero = squares == 0
    return squares.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _refuse_negative(weights_N: torch.Tensor, bag_N: torch.Tensor) -> None:
    # A NaN passes here and shows in the loss, as everywhere.
    negative = (weights_N < 0).nonzero()
    if negative.numel():
        place = int(negative[0])
        raise DataError(
            f"Weights must be 0 or more for attention pooling, but row "
            f"{int(bag_N[place])} of a batch has {float(weights_N[place]):g}. Mend the "
            f"weight column, or choose another pooling."
        )
