"""Presets, the user's own YAML and the command line, composed into one ``Config``."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, cast

import yaml
from hydra import compose as compose_presets
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlrm.config.durable import write_whole
from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean
from dlrm.config.overrides import Setting, apply_setting, parse_override, parse_setting
from dlrm.config.root import Config
from dlrm.config.sections import explain, one_line, plain_text, readable_errors
from dlrm.config.strangers import parse_yaml

CONFIG_FILE = "config.yaml"
"""Of a run directory; ``load_config`` reads it."""
OWN_PRESETS = "conf"
"""Folder of the user's own YAML, below the current directory."""


def compose(overrides: Sequence[str]) -> Config:
    """Compose the configuration from ``group=preset`` and ``key=value`` texts.

    Raises:
        ConfigError: A key or preset is unknown, or a value is of the wrong type, out of
            range or at odds with another. The message names the key as typed.
    """
    groups = preset_groups()
    settings = [parse_setting(text) for text in overrides]
    choices = [setting for setting in settings if setting.chooses_preset(groups)]
    for choice in choices:
        _check_choice(choice, groups)
    tree = _load_presets(choices)
    return _finish(tree, [setting for setting in settings if setting not in choices])


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a run's ``config.yaml``, with settings on top.

    Raises:
        ConfigError: The file is missing or no configuration, or a setting does not fit.
    """
    groups = preset_groups()
    settings = [parse_setting(text) for text in overrides]
    for setting in settings:
        if setting.chooses_preset(groups):
            raise ConfigError(
                f"{setting.text} cannot be chosen for a run that exists: its presets "
                f"are fixed. Set single keys, or start another run."
            )
    if not path.is_file():
        raise ConfigError(
            f"A run must hold config.yaml, but {path} does not exist. Check run=..."
        )
    origin = f" in {path}"
    values = plain_text(_read_yaml(path, parse_yaml))
    with readable_errors(Config, origin=origin):
        tree = OmegaConf.merge(OmegaConf.structured(Config), values)
    return _finish(cast(DictConfig, tree), settings)


def save_config(config: Config, path: Path) -> None:
    """Write the configuration as resolved YAML, which ``load_config`` reads back.

    A file that is there is replaced whole.
    """
    write_whole(path, config_text(config))


def config_text(config: Config) -> str:
    """Return the configuration as resolved YAML."""
    values = dataclasses.asdict(config)
    text: str = yaml.dump(
        _by_name(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )
    return text


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes some line separators, such as U+0085, bare unless told to quote.
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Dumper(yaml.SafeDumper):
    """YAML in which text with control characters reads back unchanged."""

    yaml_representers: ClassVar = {
        **yaml.SafeDumper.yaml_representers,
        str: _represent_text,
    }


def presets_folder() -> Path:
    """Return the presets' folder: the package ``dlrm.conf``, or a checkout's conf/."""
    spec = importlib.util.find_spec("dlrm.conf")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    return Path(__file__).resolve().parents[2] / "conf"


def preset_groups() -> list[str]:
    """List the groups that presets are chosen from: data, model, optimizer, ..."""
    return list(_group_places())


def preset_names(group: str) -> list[str]:
    """List a group's presets, the user's own included."""
    folders = (presets_folder() / group, Path.cwd() / OWN_PRESETS / group)
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def _group_places() -> dict[str, str]:
    """Map groups to their keys in the defaults; ``@_global_`` ones set any key."""
    text = (presets_folder() / "config.yaml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)["defaults"]
    keys = [key for entry in entries if isinstance(entry, dict) for key in entry]
    return {key.partition("@")[0]: key for key in keys}


def _check_choice(choice: Setting, groups: list[str]) -> None:
    group = choice.key.partition("@")[0]
    if choice.sign == "~":
        raise ConfigError(f"~{group} cannot be taken away. Type {group}=null instead.")
    if choice.value == "null":
        return
    if parse_override(choice).is_sweep_override():
        raise ConfigError(
            f"{group} must be one preset, but {choice.value} is several. "
            f"Add -m for one run each."
        )
    if group not in groups:
        raise ConfigError(
            f"{choice.text} must choose a preset of {', '.join(groups)}, but there is "
            f"no group '{group}'.{did_you_mean(group, groups)}"
        )
    names = preset_names(group)
    if choice.value not in names:
        raise ConfigError(
            f"{group} must be one of {', '.join(names) or 'none yet'}, but is "
            f"'{choice.value}'.{did_you_mean(str(choice.value), names)} Presets of "
            f"your own are {OWN_PRESETS}/{group}/NAME.yaml in the current directory."
        )
    name = Path(group) / f"{choice.value}.yaml"
    _check_namesake(name)
    own = Path(OWN_PRESETS) / name
    if own.is_file():
        _read_yaml(own)


def _check_namesake(name: Path) -> None:
    """Refuse a choice between a built-in preset and a different file of the user's."""
    own, built_in = Path.cwd() / OWN_PRESETS / name, presets_folder() / name
    if not own.is_file() or not built_in.is_file():
        return
    if own.read_bytes() != built_in.read_bytes():
        raise ConfigError(
            f"A preset of your own must have a new name, but {OWN_PRESETS}/{name} "
            f"has that of a built-in preset. Rename it."
        )


def _load_presets(choices: list[Setting]) -> DictConfig:
    ConfigStore.instance().store(name="schema", node=Config)
    own = Path.cwd() / OWN_PRESETS
    places = _group_places()
    arguments = [
        f"{choice.sign}{places.get(choice.key, choice.key)}={choice.value}"
        for choice in choices
    ]
    if own.is_dir() and own.resolve() != presets_folder().resolve():
        arguments.append(f"hydra.searchpath=[{quoted(f'file://{own}')}]")
    try:
        with initialize_config_dir(str(presets_folder()), version_base="1.3"):
            return compose_presets("config", overrides=arguments)
    except (
        HydraException,
        OmegaConfBaseException,
        yaml.YAMLError,
        ValueError,
    ) as error:
        raise _explain_preset(error) from error


def quoted(text: str) -> str:
    """Quote any text so that hydra's grammar reads it back unchanged."""
    # Only backslashes that stand before a quote, or at the end, are doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def _explain_preset(error: Exception) -> ConfigError:
    file = re.search(r"In '([^']+)'", str(error))
    origin = f" in the preset {file[1]}" if file else ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return cause
        if isinstance(cause, OmegaConfBaseException):
            return explain(cause, Config, origin=origin)
        cause = cause.__cause__ or cause.__context__
    reason = one_line(error)
    return ConfigError(f"The presets must compose, but they do not{origin}: {reason}")


def _finish(tree: DictConfig, settings: list[Setting]) -> Config:
    if OmegaConf.get_type(tree) is not Config:
        raise ConfigError("conf/config.yaml must begin its defaults with schema.")
    OmegaConf.set_struct(tree, False)
    for setting in settings:
        apply_setting(tree, setting)
    with readable_errors(Config):
        return cast(Config, OmegaConf.to_object(tree))


def _read_yaml(path: Path, parse: Callable[[str], Any] = yaml.safe_load) -> Any:
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = one_line(error)
        raise ConfigError(f"{path} must be YAML, but it is not: {reason}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold settings, one 'key: value' a line, but it holds "
            f"{values!r}."
        )
    return values


def _by_name(values: Any) -> Any:
    """Replace Enum members by their names and tuples by lists, all the way down."""
    if isinstance(values, dict):
        return {key: _by_name(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_by_name(value) for value in values]
    return values.name if isinstance(values, Enum) else values
