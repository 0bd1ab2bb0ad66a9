"""What a stranger may put into a folder, and how a test sees that it did nothing."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from dlrm.run import Run


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def pickled(proof: Path) -> bytes:
    """Return a pickle that makes the file ``proof`` where anything unpickles it."""
    return pickle.dumps(Payload(proof))


def copied(run: Run, folder: Path) -> Path:
    """Return a copy of a run below ``folder``, to be tampered with."""
    target = folder / "run"
    shutil.copytree(run.folder, target)
    return target


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """Return the file that a payload would make."""
    return tmp_path / "proof"
