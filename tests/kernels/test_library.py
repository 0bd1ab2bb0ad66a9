"""The compiled library is there and alone, or says why it is absent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlrm
from dlrm.kernels import library, text_library

ROOT = Path(dlrm.__file__).parent.parent
CSRC = ROOT / "dlrm" / "kernels" / "csrc"
compiled = pytest.mark.skipif(not library.native(), reason="nothing was compiled")
LOAD_AND_LIST = """
import torch
from dlrm.kernels.library import why_absent
assert why_absent() is None, why_absent()
torch.set_num_threads(2)
ids, offsets = torch.zeros(4096, dtype=torch.long), torch.arange(4097)
torch.ops.dlrm.embedding_pool([torch.ones(2, 4)], [0], ids, offsets, None, 0)
maps = open("/proc/self/maps").read().splitlines()
print({line.split()[-1] for line in maps if "omp" in line.split()[-1].split("/")[-1]})
"""


def why_absent() -> str | None:
    """Look anew, past the cache."""
    return library.why_absent.__wrapped__()


def test_the_environment_turns_the_library_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DLRM_NATIVE", "0")
    assert why_absent() == "DLRM_NATIVE=0 turns it off"


def test_a_package_without_the_library_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("DLRM_NATIVE", raising=False)
    monkeypatch.setattr(library, "library_files", list)
    assert why_absent() == (
        "it was not built with this package; build it with: "
        "pip install --no-build-isolation --no-deps -e ."
    )


def test_a_library_that_does_not_load_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    broken = tmp_path / "_native.so"
    broken.write_bytes(b"no library")
    monkeypatch.delenv("DLRM_NATIVE", raising=False)
    monkeypatch.setattr(library, "library_files", lambda: [broken])
    assert f"{broken} cannot be loaded" in str(why_absent())


@compiled
def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
    assert "built from other sources" in str(why_absent())


@compiled
def test_a_library_of_another_torch_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.__version__", "1.0.0+cpu")
    assert re.search(r"built for torch 2\.\S+, but this is 1\.0\.0", str(why_absent()))


def test_sources_and_python_agree_on_the_interface():
    text = (CSRC / "library_ops.cpp").read_text()
    (number,) = re.findall(r"return (\d+); \}\);", text)
    assert int(number) == library.INTERFACE
    text = (CSRC.parent / "csrc_text" / "text_columns.h").read_text()
    (number,) = re.findall(r"DLRM_TEXT_INTERFACE = (\d+);", text)
    assert int(number) == text_library._INTERFACE


def test_no_body_lets_code_of_another_instruction_set_leak():
    # Headers from outside, included behind the switch, would be compiled for it too.
    for body in sorted(CSRC.glob("*.inc")):
        assert "#include" not in body.read_text(), body


@compiled
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_threads_are_torchs_own():
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_LIST],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runtimes = eval(done.stdout)
    assert len(runtimes) == 1
    assert "torch" in runtimes.pop()


@pytest.mark.parametrize("missing", ["compiler", "torch"])
def test_the_package_installs_without_what_the_build_needs(
    tmp_path: Path, missing: str
):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    reason = "those of training need torch in the build's environment (no torch here)"
    if missing == "compiler":
        environment["CXX"] = "no-such-compiler"
        reason = "there is no C++ compiler 'no-such-compiler'"
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "dlrm" in done.stdout
    assert f"dlrm: installing without native kernels: {reason}." in done.stderr
