"""Criteo's logs with synthetic bags in place of the one-hot ids."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.engine import Target
from tests.fuzz.targets.criteo import SEEDS, TOKENS, check_log


def check(data: bytes, folder: Path) -> None:
    """Read bags, and compare each with the definition: an id and its companions."""
    check_log(data, folder, multi_hot=True)


TARGET = Target(name="criteo_multi_hot", check=check, seeds=SEEDS, tokens=TOKENS)
