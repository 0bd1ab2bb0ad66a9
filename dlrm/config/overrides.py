"""What a user types: ``key=value`` settings and ``group=preset`` choices."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean, type_at, without_none
from dlrm.config.root import Config
from dlrm.config.sections import readable_errors

PATH_KEYS = frozenset(
    {"data.source", "data.prepared", "output", "run_name", "init_from"}
)
"""Settings whose value is the text as typed, whatever characters it holds."""
_PATH_ENDING = ".pretrained.path"
"""So are those of tables that end so."""

_OVERRIDE = re.compile(
    r"(?P<sign>\+\+|\+|~)?(?P<key>[^=]+)(?:=(?P<value>.*))?", re.DOTALL
)
_QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Setting:
    """One argument taken apart: ``+data.label=clicked``."""

    text: str
    sign: str
    """``+`` or ``++`` adds an entry to a section that has names of the user's; ``~``
    takes one away; empty sets what is there."""
    key: str
    value: str | None

    def chooses_preset(self, groups: list[str]) -> bool:
        """Say whether this is ``group=preset`` rather than ``key=value``."""
        return self.key in groups or "/" in self.key or "@" in self.key


def parse_setting(text: str) -> Setting:
    """Take one argument apart.

    Raises:
        ConfigError: It is not of the form ``key=value``.
    """
    match = _OVERRIDE.fullmatch(text)
    if match is None or (match["value"] is None and match["sign"] != "~"):
        raise ConfigError(
            f"Settings must be typed as key=value, but '{text}' is not. "
            f"Type, for example, trainer.num_epochs=2."
        )
    setting = Setting(text, match["sign"] or "", match["key"].strip(), match["value"])
    if setting.key.startswith(("hydra/launcher", "hydra.launcher")):
        raise ConfigError(
            f"{setting.key} is for runs that are submitted as jobs, which -m makes. "
            f"Type dlrm train -m {setting.text} ..."
        )
    if setting.key.startswith(("hydra.", "hydra/")):
        raise ConfigError(
            f"{setting.key} is not a setting: hydra only composes the configuration "
            f"here. Run directories are set by output and run_name."
        )
    return setting


def apply_setting(tree: DictConfig, setting: Setting) -> None:
    """Set, add or remove one value of a typed tree.

    Raises:
        ConfigError: The key is unknown or the value is not of its type.
    """
    expected = type_at(Config, setting.key)
    if setting.sign == "~":
        _remove(tree, setting)
        return
    if not setting.sign:
        _require_entry(tree, setting.key)
    value = parse_value(setting, expected)
    _make_sections(tree, setting.key, value)
    with readable_errors(Config, value=value):
        OmegaConf.update(tree, setting.key, value, merge=True, force_add=True)


def parse_value(setting: Setting, expected: Any) -> Any:
    """Return a setting's value: text as typed, all else by hydra's grammar.

    Raises:
        ConfigError: The value cannot be read, or is a sweep of several.
    """
    text = setting.value or ""
    optional = without_none(expected) is not expected
    if without_none(expected) is str and not (optional and text == "null"):
        if holds_path(setting.key):
            # A path may hold ${; only a backslash keeps OmegaConf from resolving it.
            return text.replace("${", "\\${")
        if not _QUOTED.fullmatch(text):
            return text
    override = parse_override(setting)
    if override.is_sweep_override():
        raise ConfigError(
            f"{setting.key} must be one value, but {text} is several. "
            f"Write a list as [a,b], or add -m for one run each."
        )
    return override.value()


def holds_path(key: str) -> bool:
    """Say whether a setting's value is the text as typed."""
    return key in PATH_KEYS or (
        key.startswith("tables.") and key.endswith(_PATH_ENDING)
    )


def parse_override(setting: Setting) -> Override:
    """Read a setting by hydra's grammar.

    Raises:
        ConfigError: The grammar does not allow the value.
    """
    try:
        return OverridesParser.create().parse_override(f"{setting.key}={setting.value}")
    except HydraException as error:
        raise ConfigError(
            f"{setting.key} must be a value that can be read, but it is "
            f"'{setting.value}'. Put quotes inside the shell's: '{setting.key}=\"...\"'"
        ) from error


def _require_entry(tree: DictConfig, key: str) -> None:
    """Refuse a setting of an entry, such as a feature, that is not there."""
    parts = key.split(".")
    if parts[0] == "tables":
        return  # Every table of the data has options; Config refuses other names.
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        found = without_none(type_at(Config, parent))
        entries = OmegaConf.select(tree, parent) if get_origin(found) is dict else None
        if not isinstance(entries, DictConfig) or get_args(found)[1] is Any:
            continue
        names = [str(name) for name in entries]
        if parts[end] not in names and len(parts) > end + 1:
            raise ConfigError(
                f"{key} is not a setting: {parent} has no '{parts[end]}'."
                f"{did_you_mean(parts[end], names)} "
                f"It has: {', '.join(names) or 'nothing'}. To add one, type +{key}=..."
            )


def _make_sections(tree: DictConfig, key: str, value: Any) -> None:
    """Put sections with their defaults where the key leads through unset ones."""
    parts = key.split(".")
    for end in range(1, len(parts) + isinstance(value, dict)):
        place = ".".join(parts[:end])
        section = without_none(type_at(Config, place))
        if dataclasses.is_dataclass(section) and OmegaConf.select(tree, place) is None:
            above = ".".join(parts[: end - 1])
            parent = OmegaConf.select(tree, above) if above else tree
            parent[parts[end - 1]] = OmegaConf.structured(section)


def _remove(tree: DictConfig, setting: Setting) -> None:
    parent, _, name = setting.key.rpartition(".")
    found = without_none(type_at(Config, parent)) if parent else Config
    entries = OmegaConf.select(tree, parent) if get_origin(found) is dict else None
    if entries is None:
        raise ConfigError(
            f"~{setting.key} must name an entry that has a name of your own, such as a "
            f"feature, but it names a setting. Give it another value instead."
        )
    if name not in entries:
        names = [str(entry) for entry in entries]
        raise ConfigError(
            f"~{setting.key} must name an entry of {parent}, but there is no '{name}'."
            f"{did_you_mean(name, names)} It has: {', '.join(names) or 'nothing'}."
        )
    OmegaConf.set_struct(entries, False)
    del entries[name]
