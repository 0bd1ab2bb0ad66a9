from __future__ import annotations

import pytest

from dlrm.config.compose import compose
from dlrm.config.contract import Severity
from dlrm.config.errors import ConfigError


def test_a_kind_keeps_its_threshold_when_its_severity_is_set():
    checks = compose(["data.checks.label_leak.severity=warn"]).data.checks
    assert checks.label_leak.severity is Severity.warn
    assert checks.label_leak.threshold == 0.999


@pytest.mark.parametrize(
    ("setting", "fragment"),
    [
        ("data.checks.dense_drift.threshold=-1", r"dense_drift.threshold must be .*-1"),
        ("data.checks.dense_drift.threshold=.nan", r"dense_drift.threshold must be"),
        ("data.checks.dense_drift.severity=loud", r"severity must be .*loud"),
        ("data.checks.dense_drfit.severity=warn", r"dense_drift"),
    ],
)
def test_what_no_check_has_is_refused(setting: str, fragment: str):
    with pytest.raises(ConfigError, match=fragment):
        compose([setting])
