from __future__ import annotations

import json

import numpy as np
import pytest

from dlrm.config.contract import Check, ChecksConfig, Severity
from dlrm.config.errors import DataError
from dlrm.data.contract.enforcement import judge_dataset
from dlrm.data.contract.kinds import KINDS
from dlrm.data.preparation.prepare import prepare_dataset
from tests.data.contract.clean import clean_log, log_config
from tests.data.contract.mutations import MUTATIONS

WARNED = {"label_leak": Check(severity=Severity.warn, threshold=0.999)}


def findings_of(frame, folder, **checks):
    data = log_config(folder, **{**WARNED, **checks})
    return judge_dataset(prepare_dataset(data, frame=frame), data)


def test_every_kind_has_words_and_a_setting():
    settings = ChecksConfig()
    assert set(KINDS) == set(ChecksConfig.__dataclass_fields__)
    for kind in KINDS:
        assert isinstance(settings.of(kind), Check)


def test_a_clean_log_has_no_findings(tmp_path, capfd):
    folder = prepare_dataset(log_config(tmp_path), frame=clean_log(0))
    assert json.loads((folder / "findings.json").read_text()) == []
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "mutate"), MUTATIONS, ids=[mutate.__name__ for _, mutate in MUTATIONS]
)
def test_a_mutation_raises_its_finding_and_no_other(kind, mutate, tmp_path, capfd):
    frame = clean_log(1)
    mutate(frame)
    found = findings_of(frame, tmp_path)
    assert {finding.kind for finding in found} == {kind}, found
    printed = capfd.readouterr().err
    for finding in found:
        assert finding.value > finding.threshold
        assert printed.count(finding.message) == 1


def test_rows_out_of_time_order_are_found_where_that_is_asked_for(tmp_path):
    frame = clean_log(2)
    rows = np.flatnonzero(frame["part"] == "train")
    frame.loc[rows, "when"] = frame["when"].to_numpy()[rows[::-1]]
    asked = {"time_order": Check(severity=Severity.warn, threshold=0.01)}
    assert {f.kind for f in findings_of(frame, tmp_path, **asked)} == {"time_order"}
    assert not findings_of(frame, tmp_path)


def test_an_error_names_feature_value_threshold_and_what_to_do(tmp_path):
    frame = clean_log(3)
    frame["price"] = frame["label"] * 1.0
    with pytest.raises(DataError) as caught:
        prepare_dataset(log_config(tmp_path), frame=frame)
    message = str(caught.value)
    assert "label_leak: feature 'price' of the train rows" in message
    assert "at most 0.999" in message
    assert "it is 1." in message
    assert "data.checks.label_leak.severity=ignore" in message


def test_severity_and_threshold_are_of_today_and_not_of_the_preparation(tmp_path):
    frame = clean_log(4)
    frame["price"] = frame["label"] * 1.0
    with pytest.raises(DataError):
        prepare_dataset(log_config(tmp_path), frame=frame)
    made = list(tmp_path.glob("log-*"))
    assert len(made) == 1
    stamp = (made[0] / "files.json").stat().st_mtime_ns
    for accepted in (
        Check(severity=Severity.ignore),
        Check(severity=Severity.error, threshold=1.0),
    ):
        data = log_config(tmp_path, label_leak=accepted)
        assert prepare_dataset(data, frame=frame) == made[0]
        assert judge_dataset(made[0], data) == ()
    assert (made[0] / "files.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("seed", range(3))
def test_small_clean_logs_have_no_findings(seed, tmp_path):
    frame = clean_log(100 + seed, num_rows=[200, 600, 1500][seed])
    assert findings_of(frame, tmp_path) == ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_clean_logs_have_no_findings(seed, tmp_path):
    rng = np.random.default_rng(seed)
    frame = clean_log(200 + seed, num_rows=int(rng.integers(300, 20_000)))
    assert findings_of(frame, tmp_path) == ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_synthetic_logs_have_no_findings(seed, tmp_path):
    from tests.runs import tiny_config

    size = int(np.random.default_rng(seed).integers(200, 30_000))
    settings = [f"data.synthetic.num_rows={size}", f"data.synthetic.seed={seed}"]
    data = tiny_config(tmp_path, *settings).data
    assert judge_dataset(prepare_dataset(data), data) == ()
