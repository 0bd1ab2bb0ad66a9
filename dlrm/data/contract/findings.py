"""Findings: measurements beyond their threshold, in words, under the config's severity.

``findings.json`` holds them as data: a list of objects.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.config.contract import ChecksConfig, Severity
from dlrm.config.errors import DataError, DatasetError
from dlrm.config.strangers import parse_json
from dlrm.config.terminal_text import plain
from dlrm.data.contract.kinds import KINDS
from dlrm.data.contract.measuring import Measurement

FINDINGS_FILE = "findings.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One measurement that crossed its threshold."""

    kind: str
    severity: str
    """``warn`` or ``error``."""
    feature: str
    """Feature or column; empty where the rows as a whole are meant."""
    rows: str
    """``train``, ``valid``, ``test`` or the name of an input."""
    value: float
    threshold: float
    message: str


def judge(
    measurements: Iterable[Measurement], checks: ChecksConfig
) -> tuple[Finding, ...]:
    """Return what is beyond both its threshold and what chance explains."""
    found = []
    for measured in measurements:
        check = checks.of(measured.kind)
        if check.severity is Severity.ignore:
            continue
        if measured.value > check.threshold + measured.noise:
            found.append(_finding(measured, check.severity, check.threshold))
    return tuple(found)


def _finding(measured: Measurement, severity: Severity, threshold: float) -> Finding:
    kind = KINDS[measured.kind]
    what = f"feature {measured.feature!r} of " if measured.feature else ""
    detail = f" ({measured.detail})" if measured.detail else ""
    limit = f"at most {threshold:.4g}" if threshold else "none"
    message = (
        f"{measured.kind}: {what}the {measured.rows} rows must have {limit} of "
        f"{kind.measure}, but it is {measured.value:.4g}{detail}. {kind.advice} "
        f"data.checks.{measured.kind}.severity=ignore or a higher threshold accepts it."
    )
    return Finding(
        kind=measured.kind,
        severity=severity.value,
        feature=measured.feature,
        rows=measured.rows,
        value=measured.value,
        threshold=threshold,
        message=message,
    )


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Stop where a finding is an error.

    Raises:
        DataError: One is; the message says how many more there are.
    """
    errors = [found for found in findings if found.severity == Severity.error.value]
    if errors:
        more = len(errors) - 1
        rest = f" ({more} more of severity error.)" if more else ""
        raise DataError(errors[0].message + rest)


def print_warnings(findings: Sequence[Finding]) -> None:
    """Say each warning once, on stderr."""
    for found in findings:
        if found.severity == Severity.warn.value:
            print(f"Warning: {plain(found.message)}", file=sys.stderr)


def findings_text(findings: Sequence[Finding]) -> str:
    """Return the content of ``findings.json``."""
    content = [dataclasses.asdict(found) for found in findings]
    return json.dumps(content, indent=2) + "\n"


def load_findings(folder: Path) -> tuple[Finding, ...]:
    """Read ``findings.json``; none where there is no such file.

    Raises:
        DatasetError: It is damaged.
    """
    path = folder / FINDINGS_FILE
    if not path.is_file():
        return ()
    try:
        content: list[dict[str, Any]] = parse_json(path.read_text(encoding="utf-8"))
        return tuple(Finding(**entry) for entry in content)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} must be a list of findings, but it is damaged ({error}). Delete "
            f"it: the next command writes it again."
        ) from error
