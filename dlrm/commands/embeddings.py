"""``dlrm embeddings``: a table's vectors under raw keys, and the nearest of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands.arguments import CommandHelp, check_folder_of, parse, required
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.table_vectors import TableVectors

HELP = CommandHelp(
    name="embeddings",
    summary="Look into a trained table: nearest rows, all vectors under raw keys",
    usage="run=DIR table=NAME [near=KEY] [top=10] [output=FILE] [checkpoint=NAME]",
    description=(
        "With near, prints the rows whose vectors are nearest by cosine; without, what "
        "the table holds. With output, writes every vector under its raw key; the file "
        "can be another run's tables.<table>.pretrained.path. Code of the run's own is "
        "not needed and not run."
    ),
    keys={
        "run": "the run directory that dlrm train printed",
        "table": "a table of the run: a sparse feature's name unless it set another",
        "near": "a raw value, such as a movie's title, taken literally",
        "top": "how many rows to print (10)",
        "output": "the file to write: .parquet (key, row, count, vector), or .npy",
        "checkpoint": "best (the default), last, or a name such as step_000000500",
    },
    examples=(
        "dlrm embeddings run=outputs/20260131-101500-movielens_1m-dlrm table=movie_id",
        "dlrm embeddings run=outputs/movies table=movie near='Toy Story (1995)'",
        "dlrm embeddings run=outputs/movies table=movie output=movies.parquet",
    ),
)
_SUFFIXES = (".parquet", ".npy")
_ROWS_PER_GROUP = 65_536


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    if arguments.overrides:
        raise ConfigError(
            f"dlrm embeddings takes no settings, but got {arguments.overrides[0]}. "
            f"Its keys are {', '.join(HELP.keys)}."
        )
    values = arguments.values
    example = HELP.examples[1]
    run, table = (required(arguments, key, example) for key in ("run", "table"))
    top = _top(values.get("top", "10"))
    output = Path(values["output"]) if values.get("output") else None
    if output is not None:
        _check_output(output)
    loaded = _load(run, table, values.get("checkpoint", "best"))
    if "near" in values:
        _print_nearest(loaded, values["near"], top)
    else:
        _print_summary(loaded)
    if output is not None:
        write_vectors(loaded, output)
    return 0


def nearest(
    run: str | Path,
    table: str,
    near: str,
    *,
    top: int = 10,
    checkpoint: str = "best",
) -> pd.DataFrame:
    """Return ``key``, ``row``, ``cosine`` and ``count`` of the rows nearest to a key.

    The key's own row and rows of zeros are left out. A key that has no row of its own
    stands for the commonest one that it begins as a word.

    Raises:
        UserError: The run, the table or the key does not fit; see the message.
    """
    from dlrm.neighbours import find_key, nearest_rows

    loaded = _load(run, table, checkpoint)
    return nearest_rows(loaded, find_key(loaded, near), top=top)


def table_vectors(
    run: str | Path, table: str, *, checkpoint: str = "best"
) -> pd.DataFrame:
    """Return a table's ``key``, ``row``, ``count`` and ``vector``, one line an id.

    Raises:
        UserError: The run or the table does not fit; see the message.
    """
    loaded = _load(run, table, checkpoint)
    return loaded.columns(0, len(loaded)).to_pandas()


def write_vectors(
    loaded: TableVectors, path: Path, report: Callable[[str], None] = report_line
) -> None:
    """Write all vectors to a Parquet or npy file, whole or not at all."""
    if path.name.endswith(".npy"):
        _write_npy(loaded, path)
    else:
        from dlrm.commands.tables import write_tables

        starts = range(0, len(loaded), _ROWS_PER_GROUP)
        write_tables(path, (loaded.columns(s, s + _ROWS_PER_GROUP) for s in starts))
    report(f"\n{len(loaded):,} vectors of {loaded.table} -> {path}")
    if loaded.keys.keys.null_count == len(loaded) and not path.name.endswith(".npy"):
        report(
            "Its values were hashed: the file has no keys. Write .npy for vectors that "
            "another run can start from."
        )


def _write_npy(loaded: TableVectors, path: Path) -> None:
    from dlrm.data.storage.npy import save_npy

    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_npy(aside, loaded.vectors)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _load(run: str | Path, table: str, checkpoint: str) -> TableVectors:
    from dlrm.run import find_checkpoint, open_run
    from dlrm.table_vectors import load_table

    opened = open_run(Path(run))
    return load_table(opened, table, checkpoint=find_checkpoint(opened, checkpoint))


def _print_nearest(loaded: TableVectors, near: str, top: int) -> None:
    from dlrm.neighbours import find_key, nearest_rows

    found = find_key(loaded, near)
    for note in found.notes:
        report_line(note)
    table = nearest_rows(loaded, found, top=top)
    report_line(
        f"Nearest to {found.name!r} (row {found.row:,}) in table {loaded.table} of "
        f"{loaded.checkpoint}, by cosine:\n"
    )
    shown: list[tuple[str, ...]] = [("cosine", "key", "row", "count")]
    for line in table.itertuples(index=False):
        count = "" if line.count is None else f"{line.count:,}"
        shown.append((f"{line.cosine:.4f}", line.key, f"{line.row:,}", count))
    report_line(_aligned(shown))


def _print_summary(loaded: TableVectors) -> None:
    from dlrm.neighbours import summarize

    lines = summarize(loaded).items()
    report_line("\n".join(f"{name:<14}{value}" for name, value in lines))


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    # Text stands left, numbers right.
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"top must be a whole number above 0, but it is '{text}'.")
    return int(text)


def _check_output(path: Path) -> None:
    if not path.name.endswith(_SUFFIXES):
        raise ConfigError(
            f"output must end in {' or '.join(_SUFFIXES)}, but it is '{path}'."
        )
    check_folder_of(path)
