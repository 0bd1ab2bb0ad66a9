"""What is read from a folder that anybody may have made: a run or a dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dlrm.config.errors import UserError

MAX_YAML_BYTES = 1 << 24


def refuse_links(folder: Path, error: type[UserError]) -> None:
    """Refuse a folder one of whose files is a link that leads out of it.

    Reading would then read, and writing overwrite, what is not the folder's. The folder
    itself may be a link.

    Raises:
        UserError: A link leads out; of the type ``error``.
    """
    whole = folder.resolve()
    for path in _links(whole):
        try:
            target = path.resolve()
        except (OSError, RuntimeError):
            target = None  # A ring of links.
        if target is None or not target.is_relative_to(whole):
            raise error(
                f"{folder} must hold its own files, but {path.relative_to(whole)} is a "
                f"link that leads out of it. Look at where it leads; put the file "
                f"itself there, or remove it."
            )


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                yield path


def parse_json(text: str | bytes) -> Any:
    """Read JSON; what is nested too deeply is a ``ValueError`` like any other fault.

    Raises:
        ValueError: The text is no JSON that can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines could stand for billions."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "it refers to itself by an alias", event.start_mark
            )
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """Read the YAML of a saved configuration: plain values, nothing executed.

    Raises:
        yaml.YAMLError: The text is no YAML, is too long, or has aliases.
    """
    if len(text) > MAX_YAML_BYTES:
        raise yaml.YAMLError(f"it is longer than {MAX_YAML_BYTES:,} characters")
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
