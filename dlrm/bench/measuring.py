"""What the smaller measurements share: a case on disk and contestants beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlrm.bench.case import BenchCase, make_case
from dlrm.config.root import Config


@contextmanager
def case_on_disk(
    config: Config,
    *,
    num_steps: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> Iterator[tuple[BenchCase, Path]]:
    """Give a case and its folder, which is removed afterwards, runs and all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = make_case(
            config,
            output=folder / "runs",
            num_steps=num_steps,
            code=code,
            report=report,
        )
        case.save(folder)
        yield case, folder
