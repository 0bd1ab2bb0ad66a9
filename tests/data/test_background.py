from __future__ import annotations

import threading

import pytest

from dlrm.data.background import in_background


def test_items_come_in_order():
    assert list(in_background(iter(range(100)), ahead=3)) == list(range(100))


def test_an_error_comes_after_what_came_before_it():
    def items():
        yield 1
        raise KeyError("broken")

    found = in_background(items())
    assert next(found) == 1
    with pytest.raises(KeyError, match="broken"):
        next(found)


def test_the_thread_ends_when_nobody_reads_on():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    found = in_background(items(), ahead=1)
    next(found)
    before = threading.active_count()
    found.close()
    assert threading.active_count() == before - 1
    assert len(made) < 10
