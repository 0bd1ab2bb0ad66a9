"""A contestant's side of a measurement: it waits for ``go`` and answers ``done N``.

Lines in on stdin, lines out on stdout; all other lines it prints are ignored. ``N`` is
the number of examples that the turn took. When stdin ends, so does the contestant.
``ask NAME JSON``, which only our own contestants are sent, is answered
``answer JSON``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

Answer = Callable[[Any], Any]


def serve(turn: Callable[[], int], answers: Mapping[str, Answer]) -> None:
    """Take turns and answer questions until stdin ends."""
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "go":
            print(f"done {turn()}", flush=True)
        elif word == "ask":
            name, _, argument = rest.partition(" ")
            found = answers[name](json.loads(argument))
            print(f"answer {json.dumps(found)}", flush=True)
