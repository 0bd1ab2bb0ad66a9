"""The built-in log: it reads nothing, so its settings and its cuts are what can fail.

Blocks are made short while it is fuzzed; worlds are built once a seed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from unittest import mock

import numpy as np

from dlrm.config.data import DataConfig, SourceFormat, SyntheticSource
from dlrm.data.sources import impressions, synthetic
from tests.fuzz.engine import Target
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.script import Script, seed_input

BLOCK = 64
MOST_ROWS = 600
find_intercept = synthetic.find_intercept
world_of = functools.lru_cache(maxsize=8)(synthetic.build_world)


@functools.lru_cache(maxsize=8)
def intercept_of(seed: int) -> float:
    """Find a world's intercept once."""
    return find_intercept(world_of(seed), seed)


def check(data: bytes, _folder: Path) -> None:
    """Draw a log twice: settings are refused, or all rows are there, and the same."""
    script = Script(data)
    seed = script.pick((0, 0, 2**63, -1))
    words = script.body.split()
    num_rows = _whole(words[0]) if words else 0
    options = answer(lambda: SyntheticSource(num_rows=num_rows, seed=seed))
    sound = num_rows >= 10 and seed >= 0
    expect(sound != isinstance(options, Refused), "another verdict", options)
    if isinstance(options, Refused):
        return
    parts = synthetic.cut_parts(num_rows)
    expect([p.start for p in parts] == [0, parts[0].stop, parts[1].stop], "gaps", parts)
    expect(parts[2].stop == num_rows, "rows lost", parts)
    if num_rows > MOST_ROWS:
        return
    rows, splits = _draw(options)
    wanted = [p.split for p in parts for _ in range(p.start, p.stop)]
    expect(splits == wanted, "splits differ", splits, wanted)
    expect(rows == _draw(options)[0], "drawn twice, two logs", num_rows)
    expect(all(row["click"] in (0, 1) for row in rows), "no clicks", rows[:3])
    expect(all(0 < row["bayes_probability"] < 1 for row in rows), "no share", rows[:3])


def _draw(options: SyntheticSource) -> tuple[list[dict[str, object]], list[str | None]]:
    config = DataConfig(
        name="s", format=SourceFormat.synthetic, synthetic=options, label="click"
    )
    with (
        mock.patch.object(synthetic, "BLOCK_ROWS", BLOCK),
        mock.patch.object(impressions, "BLOCK_ROWS", BLOCK),
        mock.patch.object(synthetic, "build_world", world_of),
        mock.patch.object(
            synthetic, "find_intercept", lambda _, seed: intercept_of(seed)
        ),
    ):
        chunks = list(synthetic.SyntheticLog(config).chunks())
    numbers = np.concatenate([chunk.rows for chunk in chunks]).tolist()
    expect(numbers == [*range(1, options.num_rows + 1)], "rows misnumbered", numbers)
    rows = [row for chunk in chunks for row in chunk.table.to_pylist()]
    return rows, [c.split for c in chunks for _ in range(c.table.num_rows)]


def _whole(word: bytes) -> int:
    try:
        return int(word)
    except ValueError:
        return int.from_bytes(word[:2], "little") % (MOST_ROWS + 20)


TARGET = Target(
    name="synthetic",
    check=check,
    seeds=(
        seed_input(b"10"),
        seed_input(b"100", options=(1,)),
        seed_input(b"599", options=(1,)),
        seed_input(b"9", options=(3,)),
    ),
    tokens=tuple(str(n).encode() for n in (0, 9, 10, 63, 64, 65, 128, 2**63, -1)),
)
