"""Dotted keys over typed sections: what type stands at a key, what is near it."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Sequence
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from dlrm.config.errors import ConfigError

_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def type_at(root: type, key: str, *, typed: str | None = None, origin: str = "") -> Any:
    """Return the type at a dotted key; ``Any`` below a dict of ``Any``.

    ``typed`` is the key as the user typed it where it differs from ``key``, and
    ``origin`` says where it was typed, such as `` in conf/data/mine.yaml``.

    Raises:
        ConfigError: No setting has this key. The message names near ones.
    """
    prefix = (typed or key)[: len(typed or key) - len(key)]
    found: Any = root
    parts = key.split(".")
    for position, part in enumerate(parts):
        found = without_none(found)
        if dataclasses.is_dataclass(found):
            fields = field_types(found)
            if part not in fields:
                parent = ".".join(parts[:position])
                raise _unknown(root, found, parent, part, prefix, typed or key, origin)
            found = fields[part]
        elif get_origin(found) is dict:
            found = get_args(found)[1]
        elif found is not Any:
            value = prefix + ".".join(parts[:position])
            raise ConfigError(
                f"{typed or key}{origin} is not a setting: {value} is "
                f"{describe_type(found)} and has no part '{part}'. Set {value} itself."
            )
    return found


def field_types(section: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields, by name."""
    hints = get_type_hints(section)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def without_none(found: Any) -> Any:
    """Return X for ``X | None``, and any other type as it is."""
    if get_origin(found) in (Union, types.UnionType):
        members = [member for member in get_args(found) if member is not type(None)]
        return members[0] if len(members) == 1 else found
    return found


def describe_type(found: Any) -> str:
    """Say in words what values a type takes."""
    if get_origin(found) in (Union, types.UnionType):
        return " or ".join(describe_type(member) for member in get_args(found))
    if isinstance(found, type) and issubclass(found, Enum):
        return f"one of {', '.join(member.name for member in found)}"
    if get_origin(found) is list:
        return f"a list, each item {describe_type(get_args(found)[0])}"
    if get_origin(found) is dict or dataclasses.is_dataclass(found):
        return "a section of settings"
    return _NAMES.get(found, "a value")


def all_keys(root: Any, prefix: str = "") -> list[str]:
    """List every dotted key below a section; ``<name>`` is a key of the user's."""
    keys = []
    for name, found in field_types(root).items():
        key = f"{prefix}{name}"
        found = without_none(found)
        if get_origin(found) is dict:
            key, found = f"{key}.<name>", get_args(found)[1]
        keys.append(key)
        if dataclasses.is_dataclass(found):
            keys += all_keys(found, f"{key}.")
    return keys


def near_match(name: str, names: list[str]) -> str | None:
    """Return the name most like a misspelt one, or None where nothing is like it."""
    lowered = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=5)
    if close:
        # Of equally close names, swapped letters ("lable") are likelier than new ones.
        same_letters = max(close, key=lambda low: _likeness(sorted(low), sorted(name)))
        best = max(close, key=lambda low: _likeness(low, name.lower()))
        likely = _likeness(same_letters, name.lower()) >= _likeness(best, name.lower())
        return lowered[same_letters if likely else best]
    holding = [
        other for low, other in lowered.items() if len(name) > 2 and name.lower() in low
    ]
    return holding[0] if holding else None


def did_you_mean(name: str, names: list[str]) -> str:
    """Return a sentence naming a near match, led by a space, or nothing."""
    near = near_match(name, names)
    return f" Did you mean {near}?" if near else ""


def _likeness(one: Sequence[str], other: Sequence[str]) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _unknown(
    root: type,
    section: Any,
    parent: str,
    part: str,
    prefix: str,
    typed: str,
    origin: str,
) -> ConfigError:
    siblings = list(field_types(section))
    where = prefix + parent if parent else prefix.rstrip(".")
    lead = f"{where}." if where else ""
    near = near_match(part, siblings)
    if near:
        hint = f" Did you mean {lead}{near}?"
    else:
        same_end = [key for key in all_keys(root) if key.rsplit(".", 1)[-1] == part]
        close = same_end or difflib.get_close_matches(
            typed, all_keys(root), n=1, cutoff=0.7
        )
        hint = (
            f" Did you mean {' or '.join(prefix + key for key in close[:3])}?"
            if close
            else ""
        )
    return ConfigError(
        f"{typed}{origin} is not a setting.{hint} "
        f"{where or 'The configuration'} has: {', '.join(siblings)}."
    )
