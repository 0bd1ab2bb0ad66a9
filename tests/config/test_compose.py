"""Presets, the user's own YAML and typed settings become one configuration."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlrm.config.compose import (
    compose,
    config_text,
    load_config,
    preset_groups,
    preset_names,
    presets_folder,
    save_config,
)
from dlrm.config.data import DataConfig, MovielensSource, SourceFormat, Split
from dlrm.config.errors import ConfigError
from dlrm.config.features import Encoding, SparseFeature
from dlrm.config.root import Config
from dlrm.config.trainer import Device

PRESETS = [
    f"{file.parent.name}={file.stem}"
    for file in sorted(presets_folder().glob("*/*.yaml"))
]
PATHS = ["clicks.csv", "a,b.csv", "s3://b/k=1/p.csv", 'it\'s "x".csv', "${HOME}/a b\\"]


@pytest.fixture
def own_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf"
    (folder / "data").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes(preset: str):
    assert isinstance(compose([preset]), Config)


@pytest.mark.parametrize("file", sorted(presets_folder().glob("*/*.yaml")), ids=str)
def test_every_preset_begins_with_the_command_that_uses_it(file: Path):
    lines = file.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))
    assert first.startswith("# dlrm ")
    assert f"{file.parent.name}={file.stem}" in first


def test_every_folder_of_presets_is_a_group():
    assert {"data", "model", "optimizer", "trainer", "experiment"} <= set(
        preset_groups()
    )
    assert "dlrm" in preset_names("model")


def test_the_default_is_the_synthetic_log_and_dlrm():
    config = compose([])
    assert config.data.format is SourceFormat.synthetic
    assert config.model["name"] == "dlrm"
    assert dataclasses.is_dataclass(config.optimizer.sparse)


def test_settings_are_typed():
    config = compose(
        ["trainer.num_epochs=3", "optimizer.dense.lr=1e-2", "trainer.device=cpu"]
    )
    assert config.trainer.num_epochs == 3
    assert config.optimizer.dense.lr == 0.01
    assert config.trainer.device is Device.cpu


def test_a_model_takes_settings_that_only_its_file_knows():
    config = compose(["model.top_mlp=[64,32]", "+model.depth=3", "model.name=mine"])
    assert config.model["top_mlp"] == [64, 32]
    assert config.model["depth"] == 3
    assert config.model["name"] == "mine"


def test_options_of_the_dense_optimizer_are_free():
    assert compose(
        ["optimizer.dense.options.momentum=0.9"]
    ).optimizer.dense.options == {"momentum": 0.9}


def test_a_feature_is_added_set_and_removed_by_name():
    added = ["+data.sparse_features.u.encoding=identity"]
    added.append("data.sparse_features.u.num_embeddings=10")
    features = compose(added).data.sparse_features
    assert features["u"] == SparseFeature(encoding=Encoding.identity, num_embeddings=10)
    features = compose([*added, "~data.sparse_features.u"]).data.sparse_features
    assert "u" not in features


def test_a_whole_feature_may_be_given_as_a_dict():
    config = compose(["+data.sparse_features.u={column: user, min_frequency: 2}"])
    expected = SparseFeature(column="user", min_frequency=2)
    assert config.data.sparse_features["u"] == expected


def test_a_format_without_its_section_gets_the_sections_defaults():
    config = DataConfig(name="ml", format=SourceFormat.movielens)
    assert config.movielens == MovielensSource()
    assert config.synthetic is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["data.source", "data.prepared", "output"])
def test_a_path_is_taken_literally(key: str, path: str):
    config = compose([f"{key}={path}"])
    section = config.data if key.startswith("data.") else config
    assert getattr(section, key.rpartition(".")[2]) == path


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_any_text_survives_the_command_line_and_the_saved_file(
    text: str, tmp_path: Path
):
    config = compose([f"output=x{text}", "model.name=m"])
    assert config.output == f"x{text}"
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("delimiter", ["|", "^", ",", ";", " ", "comma"])
def test_a_delimiter_is_taken_literally(delimiter: str):
    feature = f"{{multi_hot: true, column: {'tags'}}}"
    config = compose(
        [
            f"+data.sparse_features.t={feature}",
            f"data.sparse_features.t.delimiter={delimiter}",
        ]
    )
    assert config.data.sparse_features["t"].delimiter == delimiter


def test_null_unsets_a_text_and_quotes_are_taken_off():
    assert compose(["data.id_column=row", "data.id_column=null"]).data.id_column is None
    assert compose(["data.id_column='null'"]).data.id_column == "null"


def test_a_users_own_yaml_stands_beside_the_presets(own_presets: Path):
    (own_presets / "data" / "mine.yaml").write_text(
        "name: mine\nformat: table\nsource: clicks.csv\nlabel: clicked\n"
        "sparse_features:\n  user: {}\ntable: {separator: tab}\n"
    )
    config = compose(["data=mine", "data.split_seed=3"])
    assert config.data.label == "clicked"
    assert config.data.sparse_features == {"user": SparseFeature()}
    assert config.data.split is Split.random
    assert "mine" in preset_names("data")


def test_an_experiment_of_the_users_own_overrides_presets(own_presets: Path):
    (own_presets / "experiment").mkdir()
    (own_presets / "experiment" / "small.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: dlrm_dcnv2\n"
        "trainer: {global_batch_size: 64}\n"
    )
    config = compose(["experiment=small"])
    assert config.model["name"] == "dlrm_dcnv2"
    assert config.trainer.global_batch_size == 64
    typed = compose(["experiment=small", "trainer.global_batch_size=32"])
    assert typed.trainer.global_batch_size == 32


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        (
            "name: x\nformat: table\nlable: y\n",
            ["data.lable", "data/mine", "data.label?"],
        ),
        (
            "name: x\nformat: tabel\n",
            ["data.format", "data/mine", "Did you mean table?"],
        ),
        ("format: table\n", ["data.name must be set"]),
        (
            "name: x\nformat: table\nleave_last: few\n",
            ["data.leave_last", "whole number"],
        ),
        ("name: [x\n", ["data/mine"]),
        ("name: x\nname: y\n", ["conf/data/mine.yaml", "duplicate key name"]),
        (
            "name: x\nformat: table\n",
            ["data.dense_features or data.sparse_features must name a feature"],
        ),
        ("- a\n- b\n", ["conf/data/mine.yaml must hold settings", "['a', 'b']"]),
        (
            "name: x\nformat: table\nsparse_features: [a, b]\n",
            ["Sections in the preset data/mine must hold 'name: value' lines"],
        ),
        (
            "name: x\nformat: table\nsparse_features:\n  user:\n",
            ["data.sparse_features.user", "is null. A section that sets nothing is {}"],
        ),
        (
            "name: x\nformat: table\nsource: ${no.such}\n",
            ["data.source refers to", "'no.such' not found"],
        ),
        (
            "name: x\nformat: table\nsparse_features: {u: {colum: c}}\n",
            ["data.sparse_features.u.colum", "column"],
        ),
    ],
)
def test_a_mistake_in_a_users_own_yaml_names_key_and_preset(
    own_presets: Path, text: str, fragments: list[str]
):
    (own_presets / "data" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        compose(["data=mine"])
    assert all(fragment in str(refused.value) for fragment in fragments), refused.value
    assert "\n" not in str(refused.value)


def test_a_preset_that_is_no_text_is_named(own_presets: Path):
    (own_presets / "data" / "mine.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match="conf/data/mine.yaml must be YAML.*0xff"):
        compose(["data=mine"])


def test_a_users_preset_may_not_take_a_built_in_name(own_presets: Path):
    (own_presets / "data" / "synthetic.yaml").write_text("name: x\nformat: table\n")
    with pytest.raises(ConfigError, match=r"conf/data/synthetic.yaml.*Rename"):
        compose(["data=synthetic"])


def test_composing_from_a_folder_with_another_projects_conf_is_no_hindrance(
    own_presets: Path,
):
    (own_presets / "config.yaml").write_text("defaults: [db: mysql]\n")
    assert compose([]).model["name"] == "dlrm"


def test_a_saved_config_reads_back_equal(tmp_path: Path):
    config = compose(
        [
            "+data.dense_features.age={log1p: true}",
            "model.top_mlp=[8]",
            "optimizer.sparse.eps=1e-10",
            "data.files.train=[a.csv,b.csv]",
        ]
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_settings_go_on_top_of_a_saved_config(tmp_path: Path):
    save_config(compose([]), tmp_path / "config.yaml")
    config = load_config(tmp_path / "config.yaml", ["trainer.num_epochs=7"])
    assert config.trainer.num_epochs == 7
    with pytest.raises(ConfigError, match=r"data=synthetic cannot be chosen"):
        load_config(tmp_path / "config.yaml", ["data=synthetic"])


def test_a_saved_config_is_data_and_resolves_nothing(tmp_path: Path):
    text = config_text(compose([])).replace("output: outputs", "output: ${oc.env:HOME}")
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml").output == "${oc.env:HOME}"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: [", "must be YAML"),
        ("- 1", "must hold settings"),
        ("trainer: {sede: 1}", "trainer.sede"),
        ("model: {name: dlrm}", "data"),
    ],
)
def test_a_damaged_saved_config_is_named(tmp_path: Path, text: str, fragment: str):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=fragment):
        load_config(tmp_path / "config.yaml")


def test_a_missing_saved_config_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"config.yaml does not exist"):
        load_config(tmp_path / "config.yaml")
