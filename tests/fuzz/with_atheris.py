"""The same readers and judges under libFuzzer, by the package ``atheris``.

    pip install atheris
    python -m tests.fuzz.with_atheris delimited -runs=100000 -seed=1 -timeout=20 CORPUS

What follows the reader's name goes to libFuzzer; CORPUS is a folder that it fills. The
first finding ends the run, and stands in ``crash-*`` in the current folder. It knows
comparisons as well as lines, but neither counts by reader nor runs on every Python:
``python -m tests.fuzz`` is what the tests rely on.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris


def main(argv: list[str]) -> None:
    """Fuzz one reader until libFuzzer ends the process."""
    # Code is watched only if it is imported so.
    with atheris.instrument_imports(include=["dlrm.data"]):
        from tests.fuzz.targets import TARGETS
    if len(argv) < 2 or argv[1] not in TARGETS:
        sys.exit(f"The first argument must be one of {', '.join(TARGETS)}.")
    target = TARGETS[argv[1]]
    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, data in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(data)
    work = folder / "work"
    work.mkdir()
    atheris.Setup(
        [argv[0], *argv[2:], str(seeds)], lambda data: target.check(data, work)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
