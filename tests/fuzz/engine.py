"""The coverage-guided loop: inputs that reach new code breed the next ones."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import dlrm
from dlrm.data.sources import criteo, delimited, parquet, table
from tests.fuzz.findings import HangError
from tests.fuzz.mutation import TOKENS, mutate

CORPUS = Path(__file__).parent / "corpus"
HANG_SECONDS = 20.0
"""Inputs have some thousand bytes and take milliseconds."""
MOST_FINDINGS = 12
GUIDED_INPUTS = 1_000
"""Watched first inputs; of later ones every tenth, since most code is known by then."""
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Files that live for a millisecond stay off the disk where the system has a place."""
_WATCHED = str(Path(dlrm.__file__).parent / "data")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One reader under test."""

    name: str
    seeds: Sequence[bytes]
    check: Callable[[bytes, Path], None]
    """Reads an input in a folder for files, and raises what is wrong."""
    tokens: Sequence[bytes] = ()
    """Words of the format, besides those that all formats fear."""


@dataclass(slots=True)
class Finding:
    """An input that a reader does not survive, and how."""

    data: bytes
    signature: str
    text: str


@dataclass(slots=True)
class Report:
    """What a run found."""

    num_inputs: int = 0
    num_edges: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    """Inputs that reached code no earlier one had reached."""


class Edges:
    """Which line follows which, in the files of ``dlrm/data``."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int, int]] = set()
        self._watched: dict[CodeType, bool] = {}

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace this thread and those it starts."""
        # A coverage report may be watching, too: it goes on afterwards.
        here, elsewhere = sys.gettrace(), threading.gettrace()
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(here)
            threading.settrace(elsewhere)  # type: ignore[arg-type]

    def _call(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        code = frame.f_code
        watched = self._watched.get(code)
        if watched is None:
            watched = code.co_filename.startswith(_WATCHED)
            self._watched[code] = watched
        if not watched:
            return None
        seen, before = self.seen, 0

        def line(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal before
            if event == "line":
                seen.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line


def fuzz(
    target: Target,
    *,
    inputs: int,
    seed: int = 0,
    guided: bool = True,
    corpus: Sequence[bytes] = (),
    seconds: float = math.inf,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Try ``inputs`` inputs: seeds, corpus, then mutations of those that taught most.

    The same seed, corpus and code give the same inputs; ``seconds`` may cut them short.
    """
    rng = random.Random(f"{seed}:{target.name}")
    pool = list(dict.fromkeys([*target.seeds, *corpus]))
    tokens = (*TOKENS, *target.tokens, *target.tokens)
    first, edges, report = list(pool), Edges(), Report()
    began, known = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="fuzz_", dir=_MEMORY) as name, _alarms():
        folder = Path(name)
        for number in range(inputs):
            data = (
                first[number]
                if number < len(first)
                else mutate(rng, rng.choice(pool), pool, tokens)
            )
            watched = guided and (number < GUIDED_INPUTS or number % 10 == 5)
            with _in_line(number % 10 > 0):
                finding = try_input(target, data, folder, edges if watched else None)
            report.num_inputs, report.num_edges = number + 1, len(edges.seen)
            report.seconds = time.monotonic() - began
            if finding is not None:
                _note(report, target, finding, folder)
                if len(report.findings) >= MOST_FINDINGS:
                    break
            elif len(edges.seen) > known:
                known = len(edges.seen)
                report.kept.append(data)
                if number >= len(first):
                    pool.append(data)
            if report.seconds > seconds:
                break
            if number % 2_000 == 1_999:
                progress(report)
    return report


def try_input(
    target: Target, data: bytes, folder: Path, edges: Edges | None = None
) -> Finding | None:
    """Return what is wrong with one input; None where the reader does right."""
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS, 1.0)
    try:
        if edges is None:
            target.check(data, folder)
        else:
            with edges.tracing():
                target.check(data, folder)
    except (Exception, HangError) as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/dlrm/" in frame.filename] or frames
        claim = (
            str(error).partition(":")[0] if isinstance(error, AssertionError) else ""
        )
        place = f"{Path(ours[-1].filename).name}:{ours[-1].name}"
        signature = f"{type(error).__name__} {claim} at {place}"
        text = "".join(traceback.format_exception(error))[-4000:]
        return Finding(data, signature, text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _note(report: Report, target: Target, finding: Finding, folder: Path) -> None:
    if all(finding.signature != other.signature for other in report.findings):
        small = minimise(target, finding, folder)
        report.findings.append(small)


def minimise(target: Target, finding: Finding, folder: Path) -> Finding:
    """Drop bytes while the same thing stays wrong."""
    if finding.signature.startswith("HangError"):
        return finding
    size, best, left = len(finding.data) // 2, finding, 600
    while size >= 1 and left > 0:
        start = 0
        while start < len(best.data) and left > 0:
            shorter = best.data[:start] + best.data[start + size :]
            found, left = try_input(target, shorter, folder), left - 1
            if found is not None and found.signature == best.signature:
                best = found
            else:
                start += size
        size //= 2
    return best


@contextmanager
def _in_line(alone: bool) -> Iterator[None]:
    """Let readers work on this thread alone: a thread costs more than small files."""
    if not alone:
        yield
        return
    with ExitStack() as patches:
        for reader in (criteo, delimited, parquet, table):
            patches.enter_context(mock.patch.object(reader, "in_background", iter))
        yield


@contextmanager
def _alarms() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise HangError(f"an input takes more than {HANG_SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, hang)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def smallest_cover(target: Target, inputs: Sequence[bytes]) -> list[bytes]:
    """Return those of ``inputs``, short ones first, that reach code seeds do not."""
    edges, cover = Edges(), []
    with tempfile.TemporaryDirectory(prefix="fuzz_", dir=_MEMORY) as name, _alarms():
        for data in target.seeds:
            try_input(target, data, Path(name), edges)
        for data in sorted(set(inputs), key=lambda data: (len(data), data)):
            known = len(edges.seen)
            try_input(target, data, Path(name), edges)
            if len(edges.seen) > known:
                cover.append(data)
    return cover


def read_corpus(name: str) -> list[bytes]:
    """Return the kept inputs of one reader, in a fixed order."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]
