"""The floor of a step is its products alone and its rows at the rate of random rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dlrm.bench.floor import floor_of
from dlrm.bench.limits import measure_limits

CPU = torch.device("cpu")


def layer(shape: list[Any], seconds: float, flops: float) -> dict[str, Any]:
    return {"shape": shape, "seconds": {"forward": seconds}, "flops": flops, "bytes": 1}


def test_a_floor_worked_by_hand():
    found = floor_of(
        seconds_a_step=0.1,
        examples_a_step=1000,
        split={
            # The same layer twice: timed once, counted twice.
            "gemms": [[8, 2, 3, True], [8, 2, 3, True], [8, 5, 1, False]],
            "seconds": {"embedding forward": 0.02, "update": 0.0},
        },
        traffic={"read_bytes": 4e6, "changed_bytes": 1e6},
        limits={
            "layers": [
                layer([8, 2, 3, True], 0.01, 1e9),
                layer([8, 5, 1, False], 0.02, 3e9),
            ],
            "gather_bytes_per_second": 6e8,
        },
    )
    # Products 0.04 s; rows (4 + 2 * 1) MB at 600 MB/s are 0.01 s.
    assert found["gemm_seconds"] == pytest.approx(0.04)
    assert found["row_seconds"] == pytest.approx(0.01)
    assert found["examples_per_second"] == pytest.approx(20_000)
    assert found["share_reached"] == pytest.approx(0.5)
    assert found["flops_per_second"] == pytest.approx(5e10)
    assert found["lookup_bytes_per_second"] == pytest.approx(2e8)
    assert found["update_bytes_per_second"] is None


@pytest.fixture
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("_SECONDS", 0.0),
        ("_ROWS", 64),
        ("_COPY_BYTES", 4096),
        ("_SQUARE", 16),
    ):
        monkeypatch.setattr(f"dlrm.bench.limits.{name}", value)


@pytest.mark.usefixtures("_briefly")
def test_limits_are_of_the_products_asked_for():
    found = measure_limits(
        [(16, 3, 5, False), (16, 5, 2, True), (16, 5, 2, True)],
        width=4,
        num_rows=100,
        device=CPU,
    )
    first, second = found["layers"]
    assert list(first["seconds"]) == ["forward", "weight gradient"]
    assert first["flops"] == 2 * 16 * 3 * 5 * 2
    assert second["flops"] == 2 * 16 * 5 * 2 * 3
    for name in ("peak_flops", "copy_bytes_per_second", "gather_bytes_per_second"):
        assert found[name] > 0


@pytest.mark.usefixtures("_briefly")
def test_a_model_without_tables_has_no_rate_of_rows():
    found = measure_limits([], width=0, num_rows=0, device=CPU)
    assert found["gather_bytes_per_second"] is None
    assert found["layers"] == []
