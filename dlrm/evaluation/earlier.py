"""What ``dlrm explain`` left beside an evaluation, for the next one to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrm.config.strangers import parse_json


def earlier_explanation(
    folder: Path, name: str, *, checkpoint: str
) -> dict[str, Any] | None:
    """Return the content of an evaluation's ``<name>.json``.

    None where there is none, where it is damaged, and where it is of another
    checkpoint than the one that is evaluated now: it would tell of another model.
    """
    try:
        content = parse_json((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("checkpoint") != checkpoint:
        return None
    return content
