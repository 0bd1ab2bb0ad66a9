"""``dlrm init``: look at a table of clicks and write a data config that trains."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.config.compose import OWN_PRESETS, preset_names
from dlrm.config.data import BadRows, TableSource
from dlrm.config.delimiters import delimiter_text
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.keys import did_you_mean
from dlrm.config.terminal_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlrm.data.profiling.guess import Guess
    from dlrm.data.profiling.inspect import TableProfile
    from dlrm.data.profiling.preset import TablePreset
    from dlrm.data.sources.chunk import Chunk

HELP = CommandHelp(
    name="init",
    summary="Look at a table of clicks and write a data config for it",
    usage="FILE label=COLUMN [key=value ...]",
    description=(
        "Reads CSV, TSV or Parquet files once, guesses what each column is for, and "
        f"writes {OWN_PRESETS}/data/NAME.yaml below the current directory, with "
        "comments. The config trains as it stands."
    ),
    keys={
        "input": "the table: a file, a folder or a glob; or the first argument",
        "label": "column of clicks, 0 or 1",
        "name": "name of the config; the file's own name where not given",
        "separator": "between columns; found by itself where not given",
        "encoding": "of the text; utf-8 or latin-1 is found by itself",
        "quoting": "false takes double quotes as plain text",
        "overwrite": "true replaces a config of that name",
    },
    examples=(
        "dlrm init clicks.csv label=clicked",
        "dlrm init 'logs/*.parquet' label=click name=logs",
        "dlrm init export.txt label=clicked separator=caret overwrite=true",
    ),
)

_FEW_ROWS = 200


@dataclass(frozen=True, slots=True)
class Written:
    """A config that was written."""

    path: Path
    preset: TablePreset
    profile: TableProfile


def main(argv: list[str]) -> int:
    """Write the config and print what was guessed."""
    arguments = parse(argv, HELP.keys, positional="input")
    if arguments.overrides:
        setting = arguments.overrides[0]
        near = did_you_mean(setting.partition("=")[0], list(HELP.keys))
        raise ConfigError(
            f"dlrm init takes {', '.join(HELP.keys)}, but it got {setting}."
            f"{near or ' Write the config first, then change it.'}"
        )
    values = arguments.values
    example = "dlrm init clicks.csv label=clicked"
    written = init(
        required(arguments, "input", example),
        label=required(arguments, "label", example),
        name=values.get("name"),
        separator=values.get("separator"),
        encoding=values.get("encoding"),
        quoting=_flag(values, "quoting", default=True),
        overwrite=_flag(values, "overwrite", default=False),
    )
    print(plain(_summary(written)))
    return 0


def init(
    source: str,
    *,
    label: str,
    name: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    quoting: bool = True,
    overwrite: bool = False,
) -> Written:
    """Look at the table ``source`` and write ``conf/data/<name>.yaml``.

    Raises:
        ConfigError: The name is taken.
        DataError: The table cannot be read, or its label is missing or not 0 and 1.
    """
    from dlrm.data.profiling.guess import guess_group, guess_roles
    from dlrm.data.profiling.inspect import inspect_table
    from dlrm.data.profiling.preset import TablePreset, render_preset
    from dlrm.data.profiling.sniff import check_label, find_encoding, find_separator
    from dlrm.data.sources.files import resolve_files
    from dlrm.data.sources.table import all_parquet

    if separator is not None:
        delimiter_text(separator, key="separator")
    files = resolve_files(source, key="input")
    path, name = _target(name, files[0], overwrite)
    is_parquet = all_parquet(files)
    table = TableSource(quoting=quoting)
    if not is_parquet:
        table.encoding = encoding or find_encoding(files[0])
        table.separator = separator or find_separator(files[0], table, label)
    profile = inspect_table(_chunks(files, table, is_parquet, label), _progress())
    check_label(profile, label)
    guesses = guess_roles(profile, label=label)
    _check_features(guesses, files[0])
    preset = TablePreset(
        name=name,
        source=source,
        table=table,
        is_parquet=is_parquet,
        num_rows=profile.num_rows,
        num_bad_rows=len(profile.bad_rows),
        guesses=guesses,
        group=guess_group(guesses),
    )
    _write(path, render_preset(preset))
    return Written(path, preset, profile)


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _target(name: str | None, file: Path, overwrite: bool) -> tuple[Path, str]:
    folder = Path(OWN_PRESETS) / "data"
    if name is None:
        stem = re.sub(r"(\.(gz|csv|tsv|txt|parquet|dat))+$", "", file.name.lower())
        name = re.sub(r"[^a-z0-9]+", "_", stem).strip("_") or "table"
        name = f"table_{name}" if name[0].isdigit() else name
    elif not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ConfigError(
            f"name must be letters, digits and underscores, but it is '{name}'."
        )
    path = folder / f"{name}.yaml"
    if path.exists() and not overwrite:
        raise ConfigError(
            f"{path} must not exist yet, but it does. Type overwrite=true to replace "
            "it, or name=OTHER to keep it."
        )
    if not path.exists() and name in preset_names("data"):
        raise ConfigError(
            f"name must differ from the built-in presets, but '{name}' is one. "
            f"Type name=my_{name}."
        )
    return path, name


def _chunks(
    files: list[Path], table: TableSource, is_parquet: bool, label: str
) -> Iterator[Chunk]:
    from dlrm.data.sources.delimited import check_headers, read_delimited
    from dlrm.data.sources.needed import NeededColumns
    from dlrm.data.sources.parquet import read_parquet
    from dlrm.data.sources.table import table_dialect

    if is_parquet:
        # Asking for the label alone checks that it is there; all columns are read.
        return read_parquet(files, check=NeededColumns((label,), ()))
    # Here these settings are keys of the command.
    dialect = dataclasses.replace(table_dialect(table), section="")
    check_headers(files, dialect, [label])
    return read_delimited(files, dialect, bad_rows=BadRows.skip)


def _check_features(guesses: list[Guess], file: Path) -> None:
    from dlrm.data.profiling.guess import Role

    if not any(guess.role in (Role.dense, Role.sparse) for guess in guesses):
        raise DataError(
            f"{file} must have columns to learn from, but beside the label it has none "
            "that is neither constant nor different in every row."
        )


def _flag(values: dict[str, str], key: str, *, default: bool) -> bool:
    text = values.get(key, str(default)).lower()
    if text not in ("true", "false"):
        raise ConfigError(f"{key} must be true or false, but it is {text}.")
    return text == "true"


def _progress() -> _Progress | None:
    return _Progress() if sys.stderr.isatty() else None


class _Progress:
    """A bar on the terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=100, unit="%", desc="reading", leave=False)

    def __call__(self, share: float) -> None:
        self._bar.update(int(100 * share) - self._bar.n)


def _summary(written: Written) -> str:
    from dlrm.data.profiling.preset import describe_column

    preset = written.preset
    rows = [("column", "role", "found", "example")]
    for guess in preset.guesses:
        column = guess.column
        example = column.examples[0][:24] if column.examples else ""
        found = f"{describe_column(column)} ({guess.reason})"
        rows.append((column.name, guess.role.value, found, example))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    lines = [line.rstrip() for line in lines]
    if written.profile.bad_rows:
        bad = written.profile.bad_rows[0]
        lines.append(
            f"\n{preset.num_bad_rows:,} rows cannot be read and will be left out; the "
            f"first: {bad.file}, line {bad.row}: the row {bad.reason}."
        )
    lines.append(f"\nWrote {written.path} ({preset.num_rows:,} rows). Next:")
    settings = [f"data={preset.name}", *_small_data_settings(preset.num_rows)]
    if _num_vectors(preset.guesses) < 2:
        # The dot interaction multiplies vectors with each other.
        settings.append("model.interaction=cat")
    lines.append(f"  dlrm train {' '.join(settings)}")
    if preset.num_rows < _FEW_ROWS:
        lines.append(
            f"\n{preset.num_rows:,} rows are few: a split may lack clicks, and what a "
            f"model learns from them can hardly be judged."
        )
    return "\n".join(lines)


def _num_vectors(guesses: Sequence[Guess]) -> int:
    """Count the vectors that a model sees: one a table, and one for all numbers."""
    from dlrm.data.profiling.guess import Role

    roles = [guess.role for guess in guesses]
    return roles.count(Role.sparse) + (Role.dense in roles)


def _small_data_settings(num_rows: int) -> list[str]:
    """Return overrides that give a small table enough steps to learn."""
    if num_rows >= 200_000:
        return []
    batch = 32
    while batch * 2 <= min(2048, num_rows // 50):
        batch *= 2
    return [f"trainer.global_batch_size={batch}", "trainer.num_epochs=10"]
