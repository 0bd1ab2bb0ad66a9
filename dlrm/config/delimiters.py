"""Separators by name: a shell and hydra give some characters a meaning of their own."""

from __future__ import annotations

from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean

DELIMITERS = {
    "comma": ",",
    "tab": "\t",
    "pipe": "|",
    "caret": "^",
    "semicolon": ";",
    "space": " ",
}
BRACKETS = "brackets"
"""Of bags alone: lists as JSON and pandas write them, such as ``['a', 'b']``."""
_FORBIDDEN = ("\n", "\r", '"', "\0")


def delimiter_text(value: str, *, key: str) -> str:
    """Return the text that ``value`` names, or ``value`` itself.

    Raises:
        ConfigError: ``value`` is empty, a word that is no separator's name, or could
            not separate anything.
    """
    text = DELIMITERS.get(value, value)
    misspelt = text.isalpha() and len(text) > 1
    if not text or misspelt or any(mark in text for mark in _FORBIDDEN):
        names = ", ".join(DELIMITERS)
        raise ConfigError(
            f"{key} must be a separator, but it is {value!r}. Give a character, or one "
            f"of {names}.{did_you_mean(value, list(DELIMITERS))}"
        )
    return text


def bag_delimiter(value: str, *, key: str) -> str:
    """Return the text that cuts bags, or ``BRACKETS``.

    Raises:
        ConfigError: As ``delimiter_text``.
    """
    return BRACKETS if value == BRACKETS else delimiter_text(value, key=key)


def delimiter_name(text: str) -> str:
    """Return the name of a separator, or the separator itself where it has none."""
    names = {character: name for name, character in DELIMITERS.items()}
    return names.get(text, text)
