"""``dlrm prepare`` composes its settings, says what it made, and prints its folder."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from dlrm.commands import prepare
from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError
from tests.runs import ClicksRun, clicks_overrides


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[DataConfig]:
    """Stand in for the preparation itself, and collect what it is asked for."""
    asked: list[DataConfig] = []

    def prepare_dataset(data: DataConfig, *, frame: object = None) -> Path:
        asked.append(data)
        return Path("prepared") / data.name

    fake = ModuleType("dlrm.data.preparation.prepare")
    fake.prepare_dataset = prepare_dataset
    fake.describe_dataset = lambda folder: f"what {folder} holds"
    monkeypatch.setitem(sys.modules, "dlrm.data.preparation.prepare", fake)
    return asked


def test_the_folder_is_printed(
    prepared: list[DataConfig], capsys: pytest.CaptureFixture[str]
):
    assert prepare.main(["data.synthetic.num_rows=50", "data.source=a,b.csv"]) == 0
    assert capsys.readouterr().out == (
        "what prepared/synthetic holds\n\nprepared/synthetic\n"
    )
    (data,) = prepared
    assert data.synthetic is not None
    assert (data.synthetic.num_rows, data.source) == (50, "a,b.csv")


def test_nothing_is_prepared_from_a_bad_setting(prepared: list[DataConfig]):
    with pytest.raises(ConfigError, match=r"data.splitt is not a setting"):
        prepare.main(["data.splitt=random"])
    assert prepared == []


def test_the_summary_names_splits_and_features(
    clicks: ClicksRun, capsys: pytest.CaptureFixture[str]
):
    # The dataset is there already, so that nothing is prepared here.
    dataset = Path(clicks.run.manifest()["dataset"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clicks.folder)
        assert prepare.main(data_settings(clicks)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "clicks: 2 dense features"
    for name, split in clicks.run.schema.splits.items():
        row = next(line.split() for line in lines if line.startswith(name))
        assert row == [name, f"{split.num_rows:,}", f"{split.prior:.4f}"]
    assert any(line.startswith("tags") for line in lines)
    assert Path(lines[-1]).resolve() == dataset


def data_settings(clicks: ClicksRun) -> list[str]:
    settings = clicks_overrides(clicks.folder)
    return [text for text in settings if text.startswith("data")]
