"""``dlrm prepare``: raw files to a prepared dataset, which ``dlrm train`` reuses."""

from __future__ import annotations

from pathlib import Path

from dlrm.commands.arguments import CommandHelp, parse
from dlrm.config.compose import compose
from dlrm.config.root import Config

HELP = CommandHelp(
    name="prepare",
    summary="Turn raw files into a prepared dataset, and print its folder",
    usage="data=PRESET [data.source=PATH] [key=value ...]",
    description=(
        "Transforms are fitted on the training rows alone. A dataset that exists "
        "already for the same files and settings is reused."
    ),
    settings={
        "data": "preset of conf/data, built-in or your own",
        "data.source": "file, folder or glob of raw data; several are separated by ;",
        "data.split": "source, random, time, leave_last, shuffle_2019, files or column",
        "data.prepared": "folder under which prepared datasets are kept (prepared)",
        "data.bad_rows": "error, or skip with a quarantine file",
    },
    examples=(
        "dlrm prepare",
        "dlrm prepare data=movielens_1m data.source=ml-1m",
        "dlrm prepare data=clicks data.split=time data.time_column=shown_at",
    ),
)


def main(argv: list[str]) -> int:
    """Prepare the dataset that the command line configures."""
    arguments = parse(argv, HELP.keys)
    print(prepare(compose(arguments.overrides)))
    return 0


def prepare(config: Config) -> Path:
    """Prepare the dataset of a configuration and return its folder.

    Raises:
        DataError: A raw file cannot be read as the configuration says.
    """
    # Imported here so that a bad setting is refused before pandas and Arrow load.
    from dlrm.data.preparation.prepare import prepare_dataset

    return prepare_dataset(config.data)
