"""Which settings a command that opens a finished run may be given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlrm.config.errors import ConfigError

CHECKS = "data.checks."


def refuse_settings(
    command: str, overrides: Sequence[str], keys: Iterable[str]
) -> None:
    """Refuse all settings but how findings about new rows are taken.

    Raises:
        ConfigError: Another one is given.
    """
    for text in overrides:
        if not text.startswith(CHECKS):
            raise ConfigError(
                f"dlrm {command} uses the run's own settings, but got {text}. Its keys "
                f"are {', '.join(keys)}; of the settings {CHECKS}* may be given."
            )
