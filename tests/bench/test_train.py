"""``bench_training`` on a tiny workload gives figures that fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlrm.bench.train import bench_training, format_training
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.config.root import Config

TINY_WORKLOAD = """
workload:
  name: tiny
  num_dense: 3
  table_rows: [50, 3, 40]
  bag_lengths: [1, 4, 1]
  num_rows: 3000
model:
  embedding_dim: 4
  bottom_mlp: [8]
  top_mlp: [8]
trainer:
  global_batch_size: 64
"""


@pytest.fixture
def settings(workdir: Path) -> list[str]:
    """Write the tiny workload's preset and return the settings that choose it."""
    folder = workdir / "conf" / "workload"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(TINY_WORKLOAD)
    return ["workload=tiny", "optimizer.sparse.name=sgd", "trainer.num_threads=1"]


def tiny(settings: list[str], *extra: str) -> Config:
    return compose([*settings, *extra])


def bench(config: Config) -> dict[str, Any]:
    return bench_training(config, num_rounds=2, report=lambda line: None)


def test_figures_fit_together(settings: list[str], workdir: Path):
    figures = bench(tiny(settings))
    assert figures["workload"] == "tiny"
    assert figures["optimizer"] == "sgd"
    assert (figures["rounds"], figures["threads"]) == (2, 1)
    speeds = figures["examples_per_second"]
    assert list(speeds) == ["dlrm", "bare", "bare again"]
    assert all(speed > 0 for speed in speeds.values())
    for key in ("dlrm_to_bare", "bare_to_itself"):
        ratio = figures[key]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    # The dataset is kept for the next measurement, the run is not.
    assert {path.name for path in workdir.iterdir()} == {"conf", "prepared"}


def test_figures_are_printed_a_line_each():
    ratio = {"median": 1.25, "low": 1.2, "high": 1.3}
    figures = {
        "examples_per_second": {"dlrm": 123456.7, "bare": 98765.4},
        "dlrm_to_bare": ratio,
        "bare_to_itself": {"median": 1.0, "low": 0.99, "high": 1.01},
    }
    assert format_training(figures).splitlines() == [
        "dlrm           123,457 examples/s",
        "bare            98,765 examples/s",
        "dlrm / bare 1.250  95 % interval [1.200, 1.300]",
        "bare / bare 1.000  95 % interval [0.990, 1.010]",
    ]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["optimizer.sparse.name=adam"], "but optimizer.sparse.name is adam"),
        (["model.interaction=cat"], "Set model=dlrm model.interaction=dot"),
    ],
)
def test_what_the_bare_loop_cannot_be_compared_with_is_refused(
    settings: list[str], extra: list[str], message: str
):
    with pytest.raises(ConfigError, match=message):
        bench(tiny(settings, *extra))


def test_a_workload_is_required():
    with pytest.raises(ConfigError, match="needs workload=w1 or workload=w2"):
        bench(compose([]))
