"""What a run depends on beside its settings and data: versions, machine, threads."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from dlrm.config.compose import config_text
from dlrm.config.environment import numeric_environment
from dlrm.config.root import Config
from dlrm.config.trainer import Device
from dlrm.data.storage.manifest import MANIFEST_FILE
from dlrm.kernels.library import instruction_set, library_files, native

_PACKAGES = (
    "dlrm", "torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "numpy", "pandas",
    "pyarrow", "hydra-core", "omegaconf", "safetensors",
)  # fmt: skip


def surroundings(config: Config, *, world_size: int) -> dict[str, Any]:
    """Return all that may change a run's bits and is neither setting nor data."""
    return {
        "packages": _package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_revision": _git_revision(),
        "source_checksum": _source_checksum(),
        "config_checksum": config_checksum(config),
        "device": config.trainer.device.value,
        "device_name": _device_name(config.trainer.device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": config.trainer.num_threads or torch.get_num_threads(),
        "world_size": world_size,
        "native_kernels": instruction_set() if native() else None,
        "environment": numeric_environment(),
    }


def config_checksum(config: Config) -> str:
    """Return a hash of the settings, but for where results lie and data is kept."""
    data = dataclasses.replace(config.data, prepared="", source=None)
    bare = dataclasses.replace(
        config, data=data, output="", run_name=None, resume=False
    )
    return hashlib.sha256(config_text(bare).encode()).hexdigest()


def data_checksum(dataset: Path) -> str:
    """Return a hash of a prepared dataset's list of files, sizes and checksums."""
    return hashlib.sha256((dataset / MANIFEST_FILE).read_bytes()).hexdigest()


def _device_name(device: Device) -> str:
    if device is not Device.cpu and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.machine()


def _source_checksum() -> str:
    """Return a hash of the package's own files, which git may not know of."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *library_files()]):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_revision() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    place = Path(__file__).parent
    try:
        answer = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
