"""The checks that every config section uses."""

from __future__ import annotations

from dlrm.config.errors import ConfigError


def require(
    condition: bool, key: str, requirement: str, value: object, hint: str = ""
) -> None:
    """Refuse a setting: the requirement, what came and, where it helps, what to do.

    Raises:
        ConfigError: ``condition`` is false.
    """
    if not condition:
        shown = "null" if value is None else value
        message = f"{key} must be {requirement}, but it is {shown}."
        raise ConfigError(f"{message} {hint}".rstrip())


def check_widths(key: str, widths: list[int]) -> None:
    """Refuse layer widths below 1.

    Raises:
        ConfigError: A width is below 1.
    """
    require(all(width >= 1 for width in widths), key, "a list of widths >= 1", widths)


def check_rate(key: str, value: float) -> None:
    """Refuse a share of dropped values that is not in [0, 1).

    Raises:
        ConfigError: It is not.
    """
    require(0 <= value < 1, key, "in [0, 1)", value)
