"""``dlrm prepare`` composes its settings and prints the prepared folder."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from dlrm.commands import prepare
from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[DataConfig]:
    """Stand in for the preparation itself, and collect what it is asked for."""
    asked: list[DataConfig] = []

    def prepare_dataset(data: DataConfig) -> Path:
        asked.append(data)
        return Path("prepared") / data.name

    fake = ModuleType("dlrm.data.preparation.prepare")
    fake.prepare_dataset = prepare_dataset
    monkeypatch.setitem(sys.modules, "dlrm.data.preparation.prepare", fake)
    return asked


def test_the_folder_is_printed(
    prepared: list[DataConfig], capsys: pytest.CaptureFixture[str]
):
    assert prepare.main(["data.synthetic.num_rows=50", "data.source=a,b.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "prepared/synthetic"
    (data,) = prepared
    assert data.synthetic is not None
    assert (data.synthetic.num_rows, data.source) == (50, "a,b.csv")


def test_nothing_is_prepared_from_a_bad_setting(prepared: list[DataConfig]):
    with pytest.raises(ConfigError, match=r"data.splitt is not a setting"):
        prepare.main(["data.splitt=random"])
    assert prepared == []
