"""What tells two configurations apart, and what may differ between lives of a run."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from dlrm.config.root import Config
from dlrm.config.table_options import TableOptions

RESUMABLE = (
    "trainer.num_epochs",
    "trainer.max_steps",
    "trainer.num_threads",
    "trainer.async_checkpoints",
    "trainer.check_memory",
    "data.checks",
    "sharding",
    "hardware",
    "launcher",
    "watch",
)
"""Settings and sections that may change between a run's first start and a later one,
beside ``tables.<table>.sharding``: how long it is, and what it runs on."""

_PLACE = ("output", "run_name", "resume")


def is_resumable(key: str) -> bool:
    """Say whether a run that exists may be given another value of ``key``."""
    key = re.sub(r"^tables\.[^.]+\.sharding", "sharding", key.lstrip("+~"))
    return any(key == known or key.startswith(f"{known}.") for known in RESUMABLE)


def differing_settings(one: Config, other: Config) -> list[str]:
    """Return the keys whose values differ, but those that lives of a run may change."""
    a, b = _settings(one), _settings(other)
    keys = [*a, *(key for key in b if key not in a)]
    missing = object()
    return [
        key
        for key in keys
        if a.get(key, missing) != b.get(key, missing)
        and key not in _PLACE
        and not is_resumable(key)
    ]


def _settings(config: Config) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    # A table that nothing is said of has the defaults.
    values["tables"] = {
        table: options
        for table, options in values["tables"].items()
        if _without_sharding(options) != _DEFAULT_TABLE
    }
    return _flat(values)


def _without_sharding(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "sharding"}


_DEFAULT_TABLE = _without_sharding(dataclasses.asdict(TableOptions()))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
