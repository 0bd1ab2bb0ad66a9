"""A command line taken apart: a command's own keys, settings, ``--code``, ``-m``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean

_WIDTH = 88


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandHelp:
    """What ``dlrm <command> --help`` prints, and what the command line may hold."""

    name: str
    summary: str
    """One line, for the list of commands."""
    usage: str
    """After ``dlrm <name>``."""
    description: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    """The command's own keys and their meaning; all other keys are settings."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings worth naming."""
    examples: tuple[str, ...] = ()
    """Whole lines to type."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """A command line taken apart."""

    values: dict[str, str]
    """The command's own keys, taken literally."""
    overrides: list[str]
    """Everything else that holds ``=``, for ``compose`` or ``load_config``."""
    code: list[Path]
    """Files named by ``--code``, in order."""
    multirun: bool = False
    repeated: dict[str, list[str]] = field(default_factory=dict)
    """Own keys that may be given several times, in order."""


def parse(
    argv: list[str],
    command_keys: Iterable[str],
    *,
    positional: str | None = None,
    sweeps: bool = False,
    repeatable: Iterable[str] = (),
) -> Arguments:
    """Take a command line apart.

    ``positional`` is the key that an argument without ``=`` stands for. ``-m`` is
    refused unless the command ``sweeps``. ``repeatable`` are those of the command's
    keys that may be given several times.

    Raises:
        ConfigError: An argument is none of those, or a key is given twice.
    """
    own, several = set(command_keys), set(repeatable)
    values: dict[str, str] = {}
    arguments = Arguments(values, [], [], any(_is_multirun(text) for text in argv))
    rest = iter(argv)
    for text in rest:
        key, equals, value = text.partition("=")
        if key == "--code":
            arguments.code.append(_code_file(value if equals else next(rest, "")))
        elif _is_multirun(text):
            _check_sweeps(text, sweeps)
        elif text.startswith("-"):
            raise _unknown_flag(text, sweeps)
        elif key in several and equals:
            arguments.repeated.setdefault(key, []).append(value)
        elif key in own and equals:
            _set_once(values, key, value)
        elif positional and not equals and not text.startswith("~"):
            _set_once(values, positional, text)
        elif positional and ("://" in key or Path(text).exists()):
            # A place that holds an equals sign, such as day=1/clicks.csv.
            _set_once(values, positional, text)
        else:
            arguments.overrides.append(_check_setting(text, own))
    if arguments.multirun and "run" in values:
        raise ConfigError("-m starts new runs and cannot go on with run=. Drop one.")
    return arguments


def required(arguments: Arguments, key: str, example: str) -> str:
    """Return one of the command's own keys.

    Raises:
        ConfigError: It was not given.
    """
    value = arguments.values.get(key)
    if not value:
        raise ConfigError(f"{key} must be set, but it is not. Type, say, {example}")
    return value


def check_folder_of(path: Path) -> None:
    """Refuse an output file in a folder that does not exist, before any work is done.

    Raises:
        ConfigError: The folder does not exist.
    """
    if not path.parent.is_dir():
        raise ConfigError(
            f"output must be in a folder that exists, but {path.parent} does not. "
            f"Make it first: mkdir -p {path.parent}"
        )


def render_help(command: CommandHelp) -> str:
    """Return the help text of one command."""
    usage = f"usage: dlrm {command.name} {command.usage}".rstrip()
    parts = [usage, f"{command.summary}."]
    if command.description:
        parts.append(textwrap.fill(command.description, _WIDTH))
    for title, rows in (("keys", command.keys), ("settings", command.settings)):
        if rows:
            parts.append(f"{title}:\n{render_rows(rows)}")
    if command.examples:
        lines = "\n".join(f"  {line}" for line in command.examples)
        parts.append(f"examples:\n{lines}")
    return "\n\n".join(parts) + "\n"


def render_rows(rows: Mapping[str, str]) -> str:
    """Return two columns, the second wrapped."""
    width = max(len(name) for name in rows) + 4
    return "\n".join(
        textwrap.fill(
            meaning,
            _WIDTH,
            initial_indent=f"  {name}".ljust(width),
            subsequent_indent=" " * width,
        )
        for name, meaning in rows.items()
    )


def _is_multirun(text: str) -> bool:
    return text in ("-m", "--multirun")


def _check_sweeps(text: str, sweeps: bool) -> None:
    if not sweeps:
        raise ConfigError(
            f"{text} makes a sweep of training runs. Type dlrm train {text} ..."
        )


def _code_file(name: str) -> Path:
    path = Path(name)
    if not name or not path.is_file():
        raise ConfigError(
            f"--code must name a Python file, but '{name}' is none. "
            f"Type --code my_model.py"
        )
    return path


def _set_once(values: dict[str, str], key: str, value: str) -> None:
    if key in values:
        raise ConfigError(
            f"{key} must be given once, but it is given as '{values[key]}' and "
            f"'{value}'. Leave one out."
        )
    values[key] = value


def _check_setting(text: str, own: set[str]) -> str:
    if "=" not in text and not text.startswith("~"):
        hint = did_you_mean(text, sorted(own))
        raise ConfigError(
            f"Settings must be typed as key=value, but '{text}' is not.{hint} "
            f"Type, for example, trainer.num_epochs=2."
        )
    return text


def _unknown_flag(text: str, sweeps: bool) -> ConfigError:
    flags = ["--help", "--code", *(["--multirun", "-m"] if sweeps else [])]
    bare = text.lstrip("-")
    hint = did_you_mean(text, flags)
    if "=" in bare:
        hint = f" Settings have no dashes: type {bare}."
    return ConfigError(f"{text} is not an option; there are {', '.join(flags)}.{hint}")
