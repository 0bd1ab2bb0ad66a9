from __future__ import annotations

import io
import sys
import time

import pytest

from dlrm.config.progress import Progress, report_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_a_line_says_how_far_and_what():
    stream = io.StringIO()
    with Progress(
        200, "train", "step", stream=stream, seconds_between_lines=0
    ) as shown:
        shown.update(50, {"loss": "0.51"})
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("train: 50/200 step, ")
    assert " left" in line
    assert line.endswith("loss=0.51")
    assert "\r" not in stream.getvalue()


def test_the_end_is_a_line_of_its_own_where_none_has_told_it():
    stream = io.StringIO()
    with Progress(
        200, "train", "step", stream=stream, seconds_between_lines=0.05
    ) as shown:
        time.sleep(0.06)
        shown.update(50)
        shown.update(150)
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "train: 50/200 step",
        "train: 200/200 step",
    ]


def test_what_was_done_before_is_no_part_of_the_rate():
    stream = io.StringIO()
    with Progress(
        100_000, "train", "step", initial=90_000, stream=stream, seconds_between_lines=0
    ) as shown:
        time.sleep(0.1)
        shown.update(1)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("train: 90,001/100,000 step, ")
    rate = float(line.split(",")[3].split()[0])
    assert rate <= 10


def test_lines_come_only_every_few_seconds_and_short_work_is_silent():
    stream = io.StringIO()
    with Progress(1000, "train", "step", stream=stream) as shown:
        for _ in range(1000):
            shown.update(1)
    assert stream.getvalue() == ""


def test_work_without_a_known_end_counts_what_is_done():
    stream = io.StringIO()
    with Progress(
        None, "score", "rows", stream=stream, seconds_between_lines=0
    ) as shown:
        shown.update(1500)
    line = stream.getvalue().splitlines()[0]
    assert line.startswith("score: 1,500 rows, ")
    assert "left" not in line


def test_a_percentage_has_no_rate():
    stream = io.StringIO()
    with Progress(100, "Reading", "%", stream=stream, seconds_between_lines=0) as shown:
        shown.update(40.0, {"rows": "7"})
    assert "Reading: 40 %," in stream.getvalue()
    assert "/s" not in stream.getvalue()


def test_a_failure_prints_no_last_line():
    stream = io.StringIO()
    try:
        with Progress(9, "train", "step", stream=stream) as shown:
            shown.update(1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert stream.getvalue() == ""


def test_on_a_terminal_a_bar_is_drawn_with_its_fields():
    stream = Terminal()
    with Progress(2, "train", "step", stream=stream) as shown:
        shown.update(1, {"loss": "0.5"})
        shown.write("epoch 1 done")
        shown.update(1)
    text = stream.getvalue()
    assert "train" in text
    assert "2/2" in text
    assert "loss=0.5" in text
    assert "epoch 1 done" in text


def test_a_clock_that_is_set_back_stops_no_bar_and_spoils_no_rate(
    monkeypatch: pytest.MonkeyPatch,
):
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr("tqdm.std.time", lambda: 3600.0 * next(hours))
    stream = Terminal()
    with Progress(4, "train", "step", stream=stream) as shown:
        for _ in range(3):
            time.sleep(0.11)
            shown.update(1)
        seen = stream.getvalue()
    assert "3/4" in seen
    assert "-" not in seen.split("3/4")[1]  # No negative time or rate.


def test_a_bar_of_percent_shows_no_raw_counts():
    stream = Terminal()
    with Progress(100, "Reading", "%", stream=stream) as shown:
        shown.update(100.0)
    assert "Reading: 100%" in stream.getvalue()
    assert "/100" not in stream.getvalue()


def test_a_result_stands_on_a_line_of_its_own_above_the_bar(
    monkeypatch: pytest.MonkeyPatch,
):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(10, "train", "step") as shown:
        shown.update(3)
        report_line("auc 0.75")
    before, _, after = terminal.getvalue().partition("auc 0.75\n")
    # What stood on the line was wiped: the last thing before is a return to its start.
    assert before.endswith("\r")
    assert "train" in before
    assert "train" in after


def test_a_result_is_a_plain_line_off_a_terminal(capsys: pytest.CaptureFixture[str]):
    report_line("auc 0.75")
    assert capsys.readouterr() == ("auc 0.75\n", "")
