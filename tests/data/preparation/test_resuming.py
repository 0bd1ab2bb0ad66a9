"""Preparations that are killed, in several processes, by their own program."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import sys
import dlrm.data.preparation.workers as workers
import dlrm.data.sources.delimited as delimited
from dlrm.commands.main import main
workers.ALONE_SECONDS = 0.0
delimited.delimited_pieces.__kwdefaults__["block_bytes"] = 1 << 13
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
COLUMNS = ("label", "price", "user", "tags")


@pytest.fixture
def clicks(tmp_path):
    generator = random.Random(0)
    lines = [",".join(COLUMNS)]
    for _ in range(6000):
        user, price = int(generator.paretovariate(0.4)), generator.random()
        tags = "|".join(f"t{generator.randrange(40)}" for _ in range(3))
        lines.append(f"{generator.randrange(2)},{price:.3f},u{user % 5000},{tags}")
    path = tmp_path / "clicks.csv"
    path.write_text("\n".join(lines) + "\n")
    conf = tmp_path / "conf" / "data"
    conf.mkdir(parents=True)
    (conf / "clicks.yaml").write_text(
        "name: clicks\nformat: table\nsource: clicks.csv\n"
        "dense_features:\n  price: {}\n"
        "sparse_features:\n  user: {}\n  tags: {multi_hot: true, delimiter: pipe}\n"
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def start(folder: Path, prepared: str, *overrides: str, workers: int = 2):
    command = [
        sys.executable, "program.py", "prepare", "data=clicks",
        f"data.prepared={prepared}", f"data.num_workers={workers}", *overrides,
    ]  # fmt: skip
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return str(out + err)


def contents(folder: Path) -> dict[str, bytes]:
    (made,) = (p for p in folder.iterdir() if not p.name.startswith("."))
    files = (path for path in made.rglob("*") if path.is_file())
    return {path.relative_to(made).as_posix(): path.read_bytes() for path in files}


def slow(folder: Path) -> subprocess.Popen[str]:
    """Start a preparation that still has work when the others have come."""
    slowly = "workers.perform = lambda task: (time.sleep(0.3), perform(task))[1]\n"
    imports = "import time\nfrom dlrm.data.preparation.blocks import perform\n"
    text = imports + PROGRAM.replace("if __name__", slowly + "if __name__")
    (folder / "program.py").write_text(text)
    return start(folder, "prepared")


def started_worker(process: subprocess.Popen[str]) -> psutil.Process:
    """Wait for the first process that shares the work."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            # What was started itself only waits for its children.
            if child.ppid() != process.pid:
                return child
        time.sleep(0.005)
    raise AssertionError(process.communicate())


def num_pieces(folder: Path) -> int:
    """Count the finished pieces of work of a preparation that goes on."""
    return sum(1 for _ in folder.glob(".tmp-*/blocks/*.block"))


@pytest.mark.slow
def test_any_number_of_processes_makes_the_same_bytes(clicks):
    for workers in (1, 2, 3):
        finished(start(clicks, f"by{workers}", workers=workers))
    alone = contents(clicks / "by1")
    assert contents(clicks / "by2") == alone
    assert contents(clicks / "by3") == alone


@pytest.mark.slow
def test_a_preparation_killed_again_and_again_ends_with_the_same_bytes(clicks):
    finished(start(clicks, "whole"))
    generator, said = random.Random(1), ""
    for _ in range(5):
        more = num_pieces(clicks / "killed") + generator.randrange(1, 9)
        process = start(clicks, "killed")
        while process.poll() is None and num_pieces(clicks / "killed") < more:
            time.sleep(0.002)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        said += process.communicate()[1]
        # The others end by themselves once they are alone.
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    said += finished(start(clicks, "killed"))
    assert contents(clicks / "killed") == contents(clicks / "whole")
    assert len(list((clicks / "killed").iterdir())) == 1
    assert "Going on: an earlier preparation was cut short" in said


@pytest.mark.slow
def test_a_killed_worker_ends_the_command_which_can_be_run_again(clicks):
    process = slow(clicks)
    worker = started_worker(process)
    worker.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "was killed by signal 9 (SIGKILL)" in err
    assert "Traceback" not in err
    (clicks / "program.py").write_text(PROGRAM)
    finished(start(clicks, "prepared"))


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(clicks):
    process = slow(clicks)
    started_worker(process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    # One that was just being started ends by itself once it is alone.
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_bad_row_is_named_from_any_process(clicks):
    lines = (clicks / "clicks.csv").read_text().splitlines()
    lines[4000] = lines[4000].replace(",u", ",cheap,u", 1)
    lines[5000] = "2" + lines[5000][1:]
    (clicks / "clicks.csv").write_text("\n".join(lines) + "\n")
    process = start(clicks, "prepared")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "clicks.csv, line 4001: the row has 5 columns where 4 must stand" in err
    assert list((clicks / "prepared").iterdir()) == []
