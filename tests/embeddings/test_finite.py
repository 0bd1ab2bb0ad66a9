from __future__ import annotations

import pytest
import torch

from dlrm.embeddings.finite import describe_bad_rows, is_finite

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_one_bad_number_anywhere_is_found(dtype: torch.dtype, bad: float):
    for place in range(6):
        values = torch.arange(6, dtype=dtype).reshape(3, 2)
        assert is_finite(values)
        values.view(-1)[place] = bad
        assert not is_finite(values)


def test_counts_and_nothing_at_all_are_finite():
    assert is_finite(torch.tensor([3, 4], dtype=torch.int32))
    assert is_finite(torch.zeros(0, 4))


def test_rows_are_counted_and_the_first_is_told_in_rows_of_the_table():
    columns = {
        "weight": torch.tensor([[0.0, 1.0], [NAN, NAN], [2.0, INF]]),
        "sum": torch.tensor([1.0, 2.0, 3.0]),
        "exp_avg": torch.tensor([0.0, 1.0, NAN]),
    }
    assert describe_bad_rows("item", columns, first_row=10) == [
        "table 'item': weight of 2 rows, the first of them 11",
        "table 'item': exp_avg of 1 row, the first of them 12",
    ]
