"""Sources of raw rows, one file a layout; ``open_source`` chooses one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlrm.config.data import DataConfig, SourceFormat
from dlrm.config.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.data.sources.chunk import Source


def open_source(
    data: DataConfig,
    frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    *,
    with_labels: bool = True,
) -> Source:
    """Open the raw rows of ``data``: files, or the DataFrames ``frame``.

    ``with_labels`` false opens rows that are only to be scored: the label may be
    missing, and no row is left out for what its label is.

    Raises:
        ConfigError: ``data.format`` and ``frame`` are at odds.
        DataError: The files cannot be found or lack columns.
    """
    # Imported as needed: a source costs nothing to those who use another.
    if frame is not None:
        if data.format is not SourceFormat.table:
            raise ConfigError(
                "data.format must be table where rows come as a DataFrame, but it is "
                f"{data.format.value}."
            )
        from dlrm.data.sources.frames import Frames

        return Frames(data, frame, with_labels=with_labels)
    if data.format is SourceFormat.synthetic:
        from dlrm.data.sources.synthetic import SyntheticLog

        return SyntheticLog(data)
    if data.format is SourceFormat.movielens:
        from dlrm.data.sources.movielens import MovielensRatings

        return MovielensRatings(data, with_labels=with_labels)
    if data.format is SourceFormat.table:
        from dlrm.data.sources.table import TableFiles

        return TableFiles(data, with_labels=with_labels)
    if data.format is SourceFormat.fasttext:
        from dlrm.data.sources.fasttext import FasttextFiles

        return FasttextFiles(data, with_labels=with_labels)
    from dlrm.data.sources.criteo import CriteoLog

    return CriteoLog(data, with_labels=with_labels)
