"""``dlrm prepare``: raw files to a prepared dataset, which ``dlrm train`` reuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands.arguments import CommandHelp, parse
from dlrm.commands.starting import is_program
from dlrm.config.compose import compose
from dlrm.config.root import Config
from dlrm.config.terminal_text import plain

if TYPE_CHECKING:
    import pandas as pd

HELP = CommandHelp(
    name="prepare",
    summary="Turn raw files into a prepared dataset, and print its folder",
    usage="data=PRESET [data.source=PATH] [key=value ...]",
    description=(
        "Transforms are fitted on the training rows alone. A dataset that exists "
        "already for the same files and settings is reused; a preparation that was "
        "killed or interrupted goes on when the same command is given again."
    ),
    settings={
        "data": "preset of conf/data, built-in or your own",
        "data.source": "file, folder or glob of raw data; several are separated by ;",
        "data.split": "source, random, time, leave_last, shuffle_2019, files or column",
        "data.prepared": "folder under which prepared datasets are kept (prepared)",
        "data.bad_rows": "error, or skip with a quarantine file",
        "data.num_workers": "processes to share the work; all cores where not set",
        "data.memory_gib": "memory for all of them; more is counted on disk",
    },
    examples=(
        "dlrm prepare",
        "dlrm prepare data=movielens_1m data.source=ml-1m",
        "dlrm prepare data=clicks data.split=time data.time_column=shown_at",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    config = compose(arguments.overrides)
    folder = _prepare_alone(config) if is_program() else _prepare(config, None)

    from dlrm.data.preparation.prepare import describe_dataset

    print(plain(f"{describe_dataset(folder)}\n\n{folder}"))
    return 0


def prepare(
    *overrides: str, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None
) -> Path:
    """Prepare a dataset and return its folder.

    ``overrides`` are what follows ``dlrm prepare`` on the command line. ``frame``
    stands for the files of ``data.source``: one DataFrame, or one for each of train,
    valid and test.

    Raises:
        UserError: A setting or the raw rows do not fit; see the message.
    """
    return _prepare(compose(list(overrides)), frame)


def _prepare_alone(config: Config) -> Path:
    """Prepare in a process that does nothing else: others start while it imports."""
    from dlrm.data.preparation.nursery import nursery_for

    nursery = nursery_for(config.data)

    from dlrm.data.preparation.arrow_start import go_without_pandas
    from dlrm.data.preparation.prepare import prepare_dataset
    from dlrm.kernels.freed_memory import keep_freed_memory

    go_without_pandas()
    keep_freed_memory()
    return prepare_dataset(config.data, nursery=nursery)


def _prepare(
    config: Config, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None
) -> Path:
    # Imported here so that a bad setting is refused before pandas and Arrow load.
    from dlrm.data.preparation.prepare import prepare_dataset

    return prepare_dataset(config.data, frame=frame)
