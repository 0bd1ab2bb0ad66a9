"""What the fuzzer looks for: anything but the judge's answer or a worded refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dlrm.config.errors import UserError

T = TypeVar("T")


class WrongAnswerError(AssertionError):
    """A reader's answer differs from the judge's."""


class HangError(BaseException):
    """An input takes longer than it may."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A user's error, as its message."""

    message: str


def answer(read: Callable[[], T]) -> T | Refused:
    """Return what ``read`` gives, or the error that a user would see."""
    try:
        return read()
    except UserError as error:
        message = str(error)
        if not message or "\x00" in message:
            raise WrongAnswerError(f"an unreadable message: {message!r}") from error
        return Refused(message)


def expect(claim: object, text: str, *values: object) -> None:
    """Report ``text`` and ``values`` unless ``claim`` holds."""
    if not claim:
        shown = "; ".join(repr(value)[:600] for value in values)
        raise WrongAnswerError(f"{text}: {shown}")
