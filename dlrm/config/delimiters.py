"""Separators by name: a shell and hydra give some characters a meaning of their own."""

from __future__ import annotations

from dlrm.config.errors import ConfigError

DELIMITERS = {
    "comma": ",",
    "tab": "\t",
    "pipe": "|",
    "caret": "^",
    "semicolon": ";",
    "space": " ",
}
_FORBIDDEN = ("\n", "\r", '"', "\0")


def delimiter_text(value: str, *, key: str) -> str:
    """Return the text that ``value`` names, or ``value`` itself.

    Raises:
        ConfigError: ``value`` is empty or could not separate anything.
    """
    text = DELIMITERS.get(value, value)
    if not text or any(mark in text for mark in _FORBIDDEN):
        names = ", ".join(DELIMITERS)
        raise ConfigError(
            f"{key} must be a separator, but it is {value!r}. Give a character, or one "
            f"of {names}."
        )
    return text


def delimiter_name(text: str) -> str:
    """Return the name of a separator, or the separator itself where it has none."""
    names = {character: name for name, character in DELIMITERS.items()}
    return names.get(text, text)
