"""Plain values into typed sections, with errors that name the key as typed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from dlrm.config.errors import ConfigError
from dlrm.config.keys import describe_type, did_you_mean, type_at, without_none

Section = TypeVar("Section")

_NOT_KNOWN = object()
_INTERPOLATION = re.compile(r"(\\*)\$\{")
_VALUE = re.compile(r"(?i)value:? '?(.*?)'?(?: of type| is not|, expected|\n|$)")


def check_section(cls: type[Section], section: dict[str, Any], key: str) -> Section:
    """Build a section's dataclass; ``key`` is where it stands, such as ``model``.

    Raises:
        ConfigError: A key is unknown, or a value missing, of the wrong type or out of
            range.
    """
    _check_keys(cls, section, key)
    with readable_errors(cls, prefix=f"{key}."):
        if not isinstance(section, DictConfig):
            section = plain_text(section)
        merged = OmegaConf.merge(OmegaConf.structured(cls), section)
        return cast(Section, OmegaConf.to_object(merged))


@contextmanager
def readable_errors(
    root: type, *, prefix: str = "", origin: str = "", value: object = _NOT_KNOWN
) -> Iterator[None]:
    """Turn OmegaConf's errors into ``ConfigError``, naming keys below ``prefix``.

    ``value`` is what the user typed where known; else it is read from the error.
    """
    try:
        yield
    except OmegaConfBaseException as error:
        raise explain(error, root, prefix=prefix, origin=origin, value=value) from error


def explain(
    error: OmegaConfBaseException,
    root: type,
    *,
    prefix: str = "",
    origin: str = "",
    value: object = _NOT_KNOWN,
) -> ConfigError:
    """Say what an error means for the user: the key, what it must be, what came."""
    key = re.sub(r"\[(\w+)\]", r".\1", error.full_key or "").lstrip(".")
    typed = prefix + key
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(
            f"{typed or prefix}{origin} must be set, but it is not. Set {typed}=..."
        )
    if isinstance(error, InterpolationKeyError):
        return ConfigError(
            f"{typed}{origin} refers to a setting that does not exist: "
            f"{str(error.msg).splitlines()[0]}."
        )
    message = str(error.msg or error).splitlines()[0]
    if not typed:
        # OmegaConf does not say where: lists and sections do not merge.
        return ConfigError(
            f"Sections{origin} must hold 'name: value' lines and lists must not, but "
            f"one is written as the other ({message})."
        )
    try:
        expected = type_at(
            root, _without_indices(root, key), typed=typed, origin=origin
        )
    except ConfigError as unknown:
        return unknown
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        return ConfigError(f"{typed}{origin} is not a setting: {message}")
    if value is _NOT_KNOWN:
        came = _VALUE.search(message)
        value = came.group(1) if came else None
    return wrong_value(typed + origin, expected, value)


def plain_text(values: Any) -> Any:
    """Keep ``${...}`` in a saved file from being resolved: a saved config is data."""
    if isinstance(values, dict):
        return {key: plain_text(value) for key, value in values.items()}
    if isinstance(values, list):
        return [plain_text(value) for value in values]
    # A backslash of its own before it would take the meaning from ours.
    return (
        _INTERPOLATION.sub(r"\1\1\\${", values) if isinstance(values, str) else values
    )


def wrong_value(typed: str, expected: Any, value: object) -> ConfigError:
    """Say that a value is not of its setting's type, and what would be."""
    kind = without_none(expected)
    hint = ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        hint = did_you_mean(str(value), [member.name for member in kind])
    shown = "null" if value is None else f"'{value}'"
    if value is None and dataclasses.is_dataclass(kind):
        hint = " A section that sets nothing is {}."
    return ConfigError(
        f"{typed} must be {describe_type(expected)}, but it is {shown}.{hint}"
    )


def one_line(error: Exception) -> str:
    """Return an error's text without line breaks."""
    return " ".join(str(error).split())


def _without_indices(root: type, key: str) -> str:
    """Cut list indices off a key: ``data.split_fractions.1`` is of the list."""
    parts = key.split(".")
    while parts and parts[-1].isdigit():
        parts.pop()
    return ".".join(parts) if parts else key


def _check_keys(cls: Any, section: dict[str, Any], key: str) -> None:
    # OmegaConf takes unknown keys of a dataclass without slots; a user's own model
    # config may have none.
    for path in _paths(section):
        type_at(cls, path, typed=f"{key}.{path}")


def _paths(section: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(section, DictConfig):
        section = OmegaConf.to_container(section)
    for name, value in section.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
