"""A configuration from a stranger is data: nothing in it is resolved or executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dlrm.config.compose import compose, config_text, load_config
from dlrm.config.errors import ConfigError
from dlrm.config.sections import check_section

SECRET = "the value of a variable"
TEXTS = (
    "${oc.env:DLRM_TEST_SECRET}",
    "\\${oc.env:DLRM_TEST_SECRET}",
    "\\\\${oc.env:DLRM_TEST_SECRET}",
    "a\\\\\\${oc.env:DLRM_TEST_SECRET}",
    "${a\\${oc.env:DLRM_TEST_SECRET}}",
    "${oc.create:{a: 1}}",
    "${hydra:runtime.cwd}",
)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLRM_TEST_SECRET", SECRET)


def saved(folder: Path, **values: object) -> Path:
    content = yaml.safe_load(config_text(compose([])))
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**content, **values}))
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_an_interpolation_stays_the_text_it_is(text: str, tmp_path: Path):
    assert load_config(saved(tmp_path, output=text)).output == text


@pytest.mark.parametrize("text", TEXTS)
def test_an_interpolation_in_a_models_section_stays_text(text: str):
    @dataclass(kw_only=True, slots=True)
    class Section:
        name: str

    assert check_section(Section, {"name": text}, key="model").name == text


def test_a_target_names_no_code(tmp_path: Path):
    hostile = {"_target_": "os.system", "_args_": [f"touch {tmp_path / 'ran'}"]}
    path = saved(tmp_path, trainer=hostile)
    with pytest.raises(ConfigError, match="_target_"):
        load_config(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch RAN']",
        "!!python/name:os.system",
        "!!python/object/new:tuple [[1]]",
    ],
)
def test_a_yaml_tag_builds_no_object(tag: str, tmp_path: Path):
    path = saved(tmp_path)
    text = path.read_text().replace("output: outputs", f"output: {tag}")
    path.write_text(text.replace("RAN", str(tmp_path / "ran")))
    with pytest.raises(ConfigError, match="must be YAML"):
        load_config(path)
    assert not (tmp_path / "ran").exists()


def test_aliases_that_stand_for_billions_are_refused(tmp_path: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for depth in range(1, 10):
        lines.append(f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 10)}]")
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="refers to itself by an alias"):
        load_config(path)


def test_nesting_without_end_is_refused(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("a: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_config(path)


def test_a_name_is_no_path(tmp_path: Path):
    content = yaml.safe_load(config_text(compose([])))
    content["data"]["name"] = "../../evil"
    path = saved(tmp_path, data=content["data"])
    with pytest.raises(ConfigError, match=r"data.name must be .*evil"):
        load_config(path)
