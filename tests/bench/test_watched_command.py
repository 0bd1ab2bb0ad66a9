"""A command is run to its end, and its memory watched, its children's too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dlrm.bench.watched_command import run_watched
from dlrm.config.errors import RunError

BIG = "import time; held = bytearray(60_000_000); time.sleep(0.4); print('held')"


def test_seconds_memory_and_words_are_those_of_the_command(tmp_path: Path):
    found = run_watched([sys.executable, "-c", BIG], name="it", folder=tmp_path)
    assert 0.4 <= found.seconds < 10
    assert 60_000_000 <= found.peak_bytes < 300_000_000
    assert found.output == "held\n"


def test_the_memory_of_children_counts(tmp_path: Path):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BIG!r}])"
    found = run_watched([sys.executable, "-c", parent], name="it", folder=tmp_path)
    assert found.peak_bytes >= 60_000_000


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path):
    command = [sys.executable, "-c", "import sys; sys.exit('no data')"]
    with pytest.raises(
        RunError, match=r"dlrm prepare must end well .* code 1\. .*no d"
    ):
        run_watched(command, name="dlrm prepare", folder=tmp_path)
