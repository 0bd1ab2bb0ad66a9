"""The crash test, the failing file system and the soak, at small counts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak import Sample, judge

ROOT = Path(__file__).parents[1]
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None,
    reason="needs a C compiler, for tests/faults/shim.c",
)


def run(module: str, *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@needs_compiler
@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_the_undisturbed_one():
    output = run("tests.crash", "kills=12", "seed=1")
    assert "12 kills in" in output
    assert "All equal to the bit." in output


@needs_compiler
@pytest.mark.slow
def test_a_save_leaves_the_old_or_the_new_whichever_call_on_files_fails():
    output = run("tests.faults", "what=save", "step=3")
    assert "; 0 not survived" in output


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "prepare"])
def test_a_command_tells_of_a_failing_disk_and_goes_on_from_there(what: str):
    output = run("tests.faults", f"what={what}", "step=40", "seed=1")
    assert "; 0 not survived" in output


def samples(memory: list[float], threads: int = 3) -> list[Sample]:
    return [
        Sample(seconds=float(i), memory=int(m * 1e6), descriptors=9, threads=threads)
        for i, m in enumerate(memory)
    ]


def test_a_soak_that_stays_flat_after_warming_up_is_sound():
    assert judge(samples([100.0, 150.0, 190.0] + [200.0, 201.0] * 5)) == []


def test_a_soak_that_creeps_is_told_by_how_much():
    (told,) = judge(samples([200.0 + i for i in range(30)]))
    assert told.startswith("Memory grew by 7.")


def test_one_more_thread_at_the_end_is_told():
    grown = [*samples([200.0] * 20), *samples([200.0] * 40, threads=4)[20:]]
    assert judge(grown) == ["Threads grew from 3 to 4."]
