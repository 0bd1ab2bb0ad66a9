"""Commands called in this process, as a terminal would call them."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from dlrm.commands.main import main

HANG_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def call(*argv: str) -> Ended:
    """Run ``dlrm argv``; what it raises is a traceback that a user would see."""
    out, err = _stream("strict"), _stream("backslashreplace")
    with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err):
        with _in_time(argv):
            code = main(list(argv))
        out.flush()
        err.flush()
    return Ended(code, _text(out), _text(err))


def ends_well(*argv: str) -> Ended:
    """Hold a command to its contract: success, or one message and exit code 2."""
    ended = call(*argv)
    assert ended.code in (0, 2), (argv, ended)
    assert "Traceback" not in ended.err, (argv, ended.err)
    if ended.code == 2:
        assert "error: " in ended.err, (argv, ended.err)
        assert len(ended.err) < 20_000, "a message that nobody can read"
    return ended


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors)


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@contextmanager
def _in_time(argv: Sequence[str]) -> Iterator[None]:
    def hang(*_: object) -> None:
        raise TimeoutError(f"dlrm {' '.join(argv)} takes over {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
