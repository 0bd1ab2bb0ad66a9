"""Every environment variable that is read outside ``dlrm/distributed/context.py``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables, typed. MLflow and Weights & Biases read their own."""

    full_error: bool = False
    """``DLRM_FULL_ERROR``: show the traceback of a user's error."""
    real_data: Path | None = None
    """``DLRM_REAL_DATA``: folder of public data sets, for the tests that need them."""
    no_color: bool = False
    """``NO_COLOR``: plain text on a terminal (no-color.org: any value but empty)."""
    launched: bool = False
    """``DLRM_LAUNCHED``: set by ``launcher.processes``, which prints ranks' errors."""
    error_file: Path | None = None
    """``TORCHELASTIC_ERROR_FILE``: where torch's launcher looks for a rank's error."""
    restart_count: str = ""
    """``TORCHELASTIC_RESTART_COUNT``: how often it has started the ranks again."""
    launch_id: str | None = None
    """``TORCHELASTIC_RUN_ID``: what it calls the job."""
    agent_keeps_store: bool = False
    """``TORCHELASTIC_USE_AGENT_STORE``: it keeps the job's store, not a rank."""
    native: bool = True
    """``DLRM_NATIVE``: 0 leaves the compiled kernels aside (docs/kernels.md)."""
    cxx: str = "g++"
    """``CXX``: the C++ compiler, which torch.compile uses."""
    cache: str = "~/.cache/dlrm"
    """``DLRM_CACHE``: folder for copies of remote files; below ``XDG_CACHE_HOME`` or
    ``~/.cache`` where not set."""
    cache_gb: str = "50"
    """``DLRM_CACHE_GB``: what those copies may take; those not used for longest
    leave first."""


_OF_NUMBERS = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES",
    "DLRM_NATIVE", "KMP_AFFINITY", "MKL_CBWR", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""Variables that other libraries read and that may change a number."""


def numeric_environment() -> dict[str, str]:
    """Return those variables that are set and may change a number, for manifests."""
    return {name: os.environ[name] for name in _OF_NUMBERS if name in os.environ}


def read_environment() -> Environment:
    """Read the variables as they are now."""
    real_data = os.environ.get("DLRM_REAL_DATA")
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Environment(
        full_error=os.environ.get("DLRM_FULL_ERROR", "").lower() not in _FALSE,
        real_data=Path(real_data) if real_data else None,
        no_color=bool(os.environ.get("NO_COLOR")),
        launched=bool(os.environ.get("DLRM_LAUNCHED")),
        error_file=Path(error_file) if error_file else None,
        restart_count=os.environ.get("TORCHELASTIC_RESTART_COUNT", ""),
        launch_id=os.environ.get("TORCHELASTIC_RUN_ID"),
        agent_keeps_store=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        native=os.environ.get("DLRM_NATIVE", "1").lower() not in _FALSE,
        cxx=os.environ.get("CXX") or "g++",
        cache=os.environ.get("DLRM_CACHE")
        or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "dlrm"),
        cache_gb=os.environ.get("DLRM_CACHE_GB") or "50",
    )


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process to be started, with these changes."""
    return {**os.environ, **changes}
