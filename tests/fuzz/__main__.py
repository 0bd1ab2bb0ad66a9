"""``python -m tests.fuzz reader=delimited inputs=100000 seed=0``: fuzz one reader.

``reader=all`` takes one after another. ``corpus=update`` keeps inputs that reached new
code, and what was found wrong, in ``tests/fuzz/corpus``; ``guided=false`` runs faster
and watches no code; ``seconds=60`` stops a reader then.
"""

from __future__ import annotations

import hashlib
import sys
import time

from tests.fuzz.engine import (
    CORPUS,
    Report,
    Target,
    fuzz,
    read_corpus,
    smallest_cover,
)
from tests.fuzz.targets import TARGETS

_DEFAULTS = {
    "reader": "all",
    "inputs": "100000",
    "seed": "0",
    "guided": "true",
    "corpus": "read",
    "seconds": "inf",
}


def main(argv: list[str]) -> int:
    """Fuzz; 1 where something was found, 2 where the command line is wrong."""
    settings = dict(_DEFAULTS)
    for text in argv:
        key, equals, value = text.partition("=")
        if key not in _DEFAULTS or not equals:
            print(f"fuzz takes {', '.join(_DEFAULTS)}, but it got {text}.")
            return 2
        settings[key] = value
    names = list(TARGETS) if settings["reader"] == "all" else [settings["reader"]]
    if not set(names) <= set(TARGETS):
        print(f"reader must be all or one of {', '.join(TARGETS)}.")
        return 2
    return max(_fuzz_one(TARGETS[name], settings) for name in names)


def _fuzz_one(target: Target, settings: dict[str, str]) -> int:
    report = fuzz(
        target,
        inputs=int(settings["inputs"]),
        seed=int(settings["seed"]),
        guided=settings["guided"] == "true",
        corpus=read_corpus(target.name),
        seconds=float(settings["seconds"]),
        progress=lambda report: print(_line(target, report), flush=True),
    )
    print(f"done {_line(target, report)}", flush=True)
    for finding in report.findings:
        print(f"\n{finding.signature}\n{finding.data!r}\n{finding.text}", flush=True)
    if settings["corpus"] == "update":
        found = [finding.data for finding in report.findings]
        for data in [*smallest_cover(target, report.kept), *found]:
            _keep(target.name, data)
    return int(bool(report.findings))


def _line(target: Target, report: Report) -> str:
    rate = report.num_inputs / max(report.seconds, 1e-9)
    return (
        f"{time.strftime('%H:%M:%S')} {target.name}: {report.num_inputs:,} inputs, "
        f"{rate:,.0f} a second, {report.num_edges:,} edges, "
        f"{len(report.kept)} kept, {len(report.findings)} findings"
    )


def _keep(name: str, data: bytes) -> None:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()[:12]
    (folder / f"{digest}.bin").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
