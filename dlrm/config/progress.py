"""Progress of long work: a bar on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from dlrm.config.terminal_text import plain

SECONDS_BETWEEN_LINES = 5.0


def report_line(line: str) -> None:
    """Print a result at once, above a bar that is being shown."""
    with tqdm.external_write_mode():
        print(plain(line), flush=True)


class Progress:
    """Show how far a piece of work is. Use it as a context manager.

    Lines and bars go to standard error, so that standard output holds results alone.
    """

    def __init__(
        self,
        total: float | None,
        label: str,
        unit: str,
        *,
        initial: float = 0,
        stream: TextIO | None = None,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
        silent: bool = False,
    ) -> None:
        """Start at ``initial`` of ``total`` units; None where nobody knows how many.

        What was done before this start is no part of the rate. ``silent`` shows
        nothing.
        """
        self._stream = stream or sys.stderr
        self._label = label
        self._unit = unit
        self._total = total
        self._seconds_between_lines = seconds_between_lines
        self._initial = self._done = initial
        self._fields: dict[str, object] = {}
        self._start = self._last_line = time.monotonic()
        self._printed_at: float | None = None
        self._bar: tqdm | None = None
        self._silent = silent
        if self._stream.isatty() and not silent:
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=label,
                unit=unit if unit == "%" else f" {unit}",
                file=self._stream,
                dynamic_ncols=True,
                bar_format=_bar_format(total, unit),
            )
            # Its own is the wall clock, which somebody may set back.
            self._bar._time = time.monotonic
            self._bar.start_t = self._bar.last_print_t = self._start

    def update(self, n: float = 1, fields: dict[str, object] | None = None) -> None:
        """Count ``n`` more units; ``fields`` are shown beside them from now on."""
        if self._silent:
            return
        self._done += n
        if fields:
            self._fields.update(fields)
        if self._bar is not None:
            if fields:
                self._bar.set_postfix_str(_shown(self._fields), refresh=False)
            self._bar.update(n)
            return
        now = time.monotonic()
        if now - self._last_line >= self._seconds_between_lines:
            self._last_line = now
            self._print_line()

    def write(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(plain(line), file=self._stream)
        else:
            print(plain(line), file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        """Return the progress."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen; short work prints no line at all."""
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._printed_at not in (None, self._done):
            self._print_line()

    def _print_line(self) -> None:
        self._printed_at = self._done
        made = self._done - self._initial
        seconds = max(time.monotonic() - self._start, 1e-9)
        parts = [f"{self._label}: {_amount(self._done)}"]
        if self._unit == "%":
            parts[0] += " %"
        elif self._total is None:
            parts[0] += f" {self._unit}"
        else:
            parts[0] += f"/{_amount(self._total)} {self._unit}"
        if self._unit != "%":
            parts.append(f"{_rate(made / seconds)} {self._unit}/s")
        if self._total and made > 0 and self._done < self._total:
            left = seconds * (self._total - self._done) / made
            parts.append(f"{tqdm.format_interval(left)} left")
        parts += [f"{name}={value}" for name, value in self._fields.items()]
        print(", ".join(parts), file=self._stream, flush=True)


def _bar_format(total: float | None, unit: str) -> str | None:
    if unit != "%" or total is None:
        return None
    return "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"


def _amount(number: float) -> str:
    return f"{number:,.0f}"


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _shown(fields: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())
