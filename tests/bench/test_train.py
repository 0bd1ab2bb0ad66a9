"""``dlrm bench train``: figures that fit together, and yardsticks that make sense."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dlrm.bench.case import BenchCase, make_case
from dlrm.bench.contestants import Rounds
from dlrm.bench.train import (
    TrainingBench,
    bench_training,
    choose_yardsticks,
    compare,
)
from dlrm.bench.train_table import format_training
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from tests.bench.figures import training_figures
from tests.bench.tiny import SETTINGS, write_preset


def rounds(**seconds: list[float]) -> Rounds:
    """Return rounds of ten examples a turn."""
    found = {name.replace("_", " "): np.array(each) for name, each in seconds.items()}
    tens = {name: np.full(len(each), 10) for name, each in found.items()}
    return Rounds(seconds=found, examples=tens, idle_share=0.0)


def test_a_ratio_is_to_the_mean_of_a_yardsticks_two_processes():
    found = compare(
        rounds(dlrm=[1.0, 1.0], bare=[2.0, 2.0], bare_again=[4.0, 4.0]), ["bare"]
    )
    assert found["ratios"]["bare"]["median"] == pytest.approx(3.0)
    assert found["noise"]["bare"]["median"] == pytest.approx(0.5)
    assert found["void"]
    speed = found["contestants"]["dlrm"]["examples_per_second"]
    assert list(speed.values()) == pytest.approx([10.0] * 3)


@pytest.mark.parametrize(("again", "void"), [(1.02, False), (1.04, True)])
def test_a_run_is_void_beyond_three_percent(again: float, void: bool):
    found = compare(
        rounds(dlrm=[1.0] * 3, bare=[1.0] * 3, bare_again=[again] * 3), ["bare"]
    )
    assert found["void"] == void


def test_a_pause_in_one_round_counts_in_the_overall_speed_alone():
    found = compare(rounds(dlrm=[1.0, 1.0, 1.0, 7.0]), [])
    ours = found["contestants"]["dlrm"]
    assert ours["examples_per_second"]["median"] == pytest.approx(10.0)
    assert ours["overall_examples_per_second"] == pytest.approx(4.0)
    assert not found["void"]


@pytest.fixture
def case(workdir: Path) -> BenchCase:
    write_preset(workdir)
    return make_case(
        compose(list(SETTINGS)),
        output=workdir / "runs",
        num_steps=5,
        code=(),
        report=lambda line: None,
    )


def test_yardsticks_are_all_there_are_unless_said(case: BenchCase):
    assert choose_yardsticks(case, None) == (["bare", "embedding_bags"], {})
    assert choose_yardsticks(case, ("bare",)) == (["bare"], {})
    assert choose_yardsticks(case, ()) == ([], {})


def test_a_yardstick_that_is_not_there_is_refused_only_where_it_was_asked_for(
    case: BenchCase,
):
    config = dataclasses.replace(case.config, model={"name": "deepfm"})
    other = dataclasses.replace(case, config=config)
    names, absent = choose_yardsticks(other, None)
    assert names == []
    assert "model=deepfm" in absent["bare"]
    with pytest.raises(ConfigError, match=r"against=bare, .* model=deepfm"):
        choose_yardsticks(other, ("bare",))
    with pytest.raises(ConfigError, match="or be none, but it names 'nobody'"):
        choose_yardsticks(case, ("nobody",))


def test_a_case_survives_its_folder(case: BenchCase, workdir: Path):
    folder = workdir / "case"
    folder.mkdir()
    case.save(folder)
    found = BenchCase.load(folder, lambda files: None)
    assert found == dataclasses.replace(case, dataset=case.dataset.resolve())
    assert found.name == "tiny"


def test_any_data_makes_a_case(workdir: Path, prepared: Path):
    config = compose(
        [
            "data=synthetic", "data.synthetic.num_rows=4000",
            f"data.prepared={prepared}",
        ]
    )  # fmt: skip
    case = make_case(
        config, output=workdir, num_steps=3, code=(), report=lambda line: None
    )
    assert case.name == "synthetic"
    assert case.dataset.parent == prepared


def test_figures_are_printed_as_tables():
    text = format_training(training_figures())
    assert "dlrm / bare            1.250 [1.200, 1.300]" in text
    assert "bare to itself         1.001 [0.990, 1.010]" in text
    assert "without embedding_bags: it has the dot interaction alone" in text
    assert "update                     4.00   10.0%" in text
    assert "reached 48 %" in text
    assert "VOID" not in text
    assert "VOID" in format_training(training_figures() | {"void": True})


BASELINE = """
import sys
for line in sys.stdin:
    if line.strip() == "go":
        print("done 1000", flush=True)
"""


@pytest.mark.slow
def test_a_measurement_from_end_to_end(workdir: Path):
    write_preset(workdir)
    (workdir / "loop.py").write_text(BASELINE)
    options = TrainingBench(
        num_rounds=2,
        num_steps=3,
        against=("bare",),
        baseline=f"{sys.executable} loop.py",
    )
    figures = bench_training(compose(list(SETTINGS)), options, report=lambda line: None)
    json.dumps(figures)
    assert set(figures["contestants"]) == {
        "dlrm", "bare", "bare again", "baseline", "baseline again",
    }  # fmt: skip
    assert set(figures["ratios"]) == set(figures["noise"]) == {"bare", "baseline"}
    split = figures["split"]
    pieces = [value for name, value in split.items() if not name.startswith("whole")]
    assert sum(pieces) == pytest.approx(split["whole"])
    assert 0 < figures["floor"]["share_reached"] < 1
    assert figures["facts"]["batch"] == 64
    assert "dlrm / baseline" in format_training(figures)
    # The dataset is kept for the next measurement, the run is not.
    left = {path.name for path in workdir.iterdir()}
    assert left == {"conf", "prepared", "loop.py"}
