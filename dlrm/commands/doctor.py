"""``dlrm doctor``: is this installation sound, and which line mends it where it is not?

Nothing heavy is imported here: it runs where torch or torchrec cannot be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlrm.commands.arguments import CommandHelp, parse
from dlrm.commands.probe import (
    NATIVE_KERNELS,
    SMOKE_RUN,
    installed_version,
    local_version,
    run_python,
    try_import,
)
from dlrm.config.errors import ConfigError

HELP = CommandHelp(
    name="doctor",
    summary="Check this installation, and print for each fault the line that mends it",
    usage="",
    description="Exits 0 where all is sound, and 1 where something must be mended.",
    examples=("dlrm doctor",),
)

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 14)
PAIRS = (("2.13", "1.8.0", "1.8.0"), ("2.11", "1.6.1", "1.6.0"))
"""torch, torchrec and fbgemm-gpu versions that belong together, the default first."""
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
LIBRARIES = {
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "polars": "polars",
    "hydra-core": "hydra",
    "omegaconf": "omegaconf",
    "safetensors": "safetensors",
    "tensorboard": "tensorboard",
}
"""Distributions that every command needs, and the module each is imported by."""
_MIN_MEMORY_GIB = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    ok: bool
    subject: str
    what: str
    mend: str = ""
    """The line to type, where it is not ok."""
    warning: bool = False
    """Worth knowing, but no fault."""


def main(argv: list[str]) -> int:
    """Print every finding; return 0 where all are sound, else 1."""
    if parse(argv, HELP.keys).overrides:
        raise ConfigError("dlrm doctor takes no settings. Type dlrm doctor alone.")
    faults = 0
    for finding in examine():
        print(render_finding(finding), flush=True)
        faults += not finding.ok
    if faults:
        print(f"\n{faults} to mend: type the lines shown, then dlrm doctor again.")
        return 1
    print("\nThis installation is sound.")
    return 0


def examine() -> Iterator[Finding]:
    """Yield findings from the cheap and basic to the slow and particular."""
    has_gpu = nvidia_gpu_present()
    yield check_python(sys.version_info[:2])
    yield from check_machine()
    yield check_writable(Path.cwd())
    yield check_fbgemm_twice()
    yield check_pair(*_versions(), has_gpu=has_gpu)
    yield check_import("torch", "torch", install_line(has_gpu))
    yield check_import(_fbgemm(has_gpu), "fbgemm_gpu", install_line(has_gpu))
    yield check_import("torchrec", "torchrec", install_line(has_gpu))
    for distribution, module in LIBRARIES.items():
        yield check_import(distribution, module, f"{_pip()} {distribution}")
    yield check_native()
    yield check_cuda(has_gpu)
    yield check_smoke(has_gpu)


def check_python(version: tuple[int, ...]) -> Finding:
    """Check the interpreter's version."""
    shown = ".".join(map(str, version))
    ok = OLDEST_PYTHON <= version <= NEWEST_PYTHON
    oldest, newest = (".".join(map(str, v)) for v in (OLDEST_PYTHON, NEWEST_PYTHON))
    mend = "" if ok else f"make setup PYTHON=python{newest}"
    return Finding(ok, "python", f"{shown} (needs {oldest} to {newest})", mend)


def check_machine() -> Iterator[Finding]:
    """Report cores and memory."""
    yield Finding(True, "cores", str(os.cpu_count()))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        small = gib < _MIN_MEMORY_GIB
        advice = f"; large tables need more than {_MIN_MEMORY_GIB} GiB" if small else ""
        yield Finding(True, "memory", f"{gib:.1f} GiB{advice}", warning=small)


def check_writable(folder: Path) -> Finding:
    """Check that prepared data and runs can be written below the current directory."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding(True, "directory", f"{folder} is writable")
    except OSError as error:
        what = f"{folder} is not writable ({error.strerror})"
        return Finding(False, "directory", what, "cd ~")


def check_fbgemm_twice() -> Finding:
    """Check that the CUDA and the CPU build of fbgemm are not both installed."""
    both = [installed_version(name) for name in ("fbgemm-gpu", "fbgemm-gpu-cpu")]
    if None in both:
        return Finding(True, "fbgemm builds", "at most one is installed")
    remove = f"{sys.executable} -m pip uninstall -y fbgemm-gpu fbgemm-gpu-cpu"
    mend = f"{remove} && {install_line(nvidia_gpu_present())}"
    what = "fbgemm-gpu and fbgemm-gpu-cpu overwrite each other's files; one must go"
    return Finding(False, "fbgemm builds", what, mend)


def check_pair(
    torch: str | None, torchrec: str | None, fbgemm: str | None, *, has_gpu: bool
) -> Finding:
    """Check that torch, torchrec and fbgemm-gpu are versions that belong together."""
    found = f"torch {torch}, torchrec {torchrec}, fbgemm-gpu {fbgemm}"
    for pair_torch, pair_torchrec, pair_fbgemm in PAIRS:
        of_pair = torch is not None and torch.rsplit(".", 1)[0] == pair_torch
        if of_pair and (torchrec, fbgemm) == (pair_torchrec, pair_fbgemm):
            return Finding(True, "versions", found)
    known = " or ".join(" / ".join(pair) for pair in PAIRS)
    what = f"{found} do not belong together (known: {known})"
    return Finding(False, "versions", what, install_line(has_gpu))


def check_import(distribution: str, module: str, mend: str) -> Finding:
    """Check that a package is installed and can be imported."""
    version = installed_version(distribution)
    probe = try_import(module)
    if probe.ok:
        return Finding(True, distribution, version or "imports")
    what = "is not installed" if version is None else f"{version} fails: {probe.output}"
    # A package that is there but broken is only replaced by force.
    if version is not None:
        mend = mend.replace("install ", "install --force-reinstall ")
    return Finding(False, distribution, what, mend)


def check_native() -> Finding:
    """Report the compiled kernels; fbgemm's and torch's do their work without them."""
    probe = run_python(NATIVE_KERNELS)
    there = probe.ok and probe.output.startswith("built for")
    what = probe.output if there else f"absent, which costs speed alone: {probe.output}"
    return Finding(True, "native kernels", what, warning=not there)


def check_cuda(has_gpu: bool) -> Finding:
    """Check that a machine with an NVIDIA GPU has the CUDA builds."""
    if not has_gpu:
        return Finding(True, "gpu", "no NVIDIA GPU: the CPU builds are right")
    if installed_version("fbgemm-gpu-cpu") or local_version("torch") == "cpu":
        what = "an NVIDIA GPU is visible, but these are CPU builds"
        remove = f"{sys.executable} -m pip uninstall -y torch fbgemm-gpu-cpu"
        return Finding(False, "gpu", what, f"{remove} && {install_line(True)}")
    probe = run_python("import torch; assert torch.cuda.is_available(), 'no device'")
    what = "NVIDIA GPU usable" if probe.ok else f"torch sees no GPU: {probe.output}"
    mend = "nvidia-smi  # its CUDA version must not be older than torch's"
    return Finding(probe.ok, "gpu", what, "" if probe.ok else mend)


def check_smoke(has_gpu: bool) -> Finding:
    """Train one tiny table through fbgemm's kernels."""
    probe = run_python(SMOKE_RUN)
    if probe.ok:
        return Finding(True, "smoke run", "one fused step of one table is right")
    return Finding(False, "smoke run", probe.output, install_line(has_gpu))


def install_line(has_gpu: bool) -> str:
    """Return the line that installs the default pair for this machine."""
    torch, torchrec, fbgemm = PAIRS[0]
    if has_gpu:
        return f"{_pip()} torch=={torch}.0 fbgemm-gpu=={fbgemm} torchrec=={torchrec}"
    return (
        f"{_pip()} torch=={torch}.0 --extra-index-url {CPU_INDEX} && "
        f"{_pip()} fbgemm-gpu-cpu=={fbgemm} tensordict torchmetrics==1.0.3 "
        f"pyre-extensions iopath tqdm && {_pip()} --no-deps torchrec=={torchrec}"
    )


def nvidia_gpu_present() -> bool:
    """Say whether ``nvidia-smi -L`` lists a GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    command = ["nvidia-smi", "-L"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "GPU" in done.stdout


def render_finding(finding: Finding) -> str:
    """Return the lines of one finding."""
    mark = "FAIL" if not finding.ok else "warn" if finding.warning else "ok"
    line = f"{mark:<5} {finding.subject:<14} {finding.what}"
    return f"{line}\n      mend: {finding.mend}" if finding.mend else line


def _versions() -> tuple[str | None, str | None, str | None]:
    fbgemm = installed_version("fbgemm-gpu-cpu") or installed_version("fbgemm-gpu")
    return installed_version("torch"), installed_version("torchrec"), fbgemm


def _fbgemm(has_gpu: bool) -> str:
    other = "fbgemm-gpu" if has_gpu else "fbgemm-gpu-cpu"
    names = ("fbgemm-gpu-cpu", "fbgemm-gpu")
    return next((name for name in names if installed_version(name)), other)


def _pip() -> str:
    return f"{sys.executable} -m pip install"
