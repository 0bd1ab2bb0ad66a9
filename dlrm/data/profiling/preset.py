"""A data preset as commented YAML, from guessed roles."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dlrm.config.data import TableSource
from dlrm.config.delimiters import delimiter_name
from dlrm.data.profiling.guess import Guess, Role
from dlrm.data.profiling.inspect import MAX_DISTINCT, ColumnProfile

_NOT_PRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Characters that YAML refuses, or takes for a line's end, where they stand plain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TablePreset:
    """What goes into the file."""

    name: str
    source: str
    table: TableSource
    is_parquet: bool
    num_rows: int
    num_bad_rows: int
    guesses: Sequence[Guess]
    group: str | None

    def column_of(self, role: Role) -> str | None:
        """Return the one column that has ``role``."""
        names = [guess.column.name for guess in self.guesses if guess.role is role]
        return names[0] if names else None


def render_preset(preset: TablePreset) -> str:
    """Return the YAML text."""
    time = preset.column_of(Role.time)
    lines = [
        f"# dlrm train data={preset.name}",
        f"# By dlrm init from {preset.num_rows:,} rows. Change what it guessed wrong.",
        f"name: {preset.name}",
        "format: table",
        "# As seen from the directory where you type dlrm.",
        f"source: {quote(preset.source)}",
        *_table_lines(preset),
        f"label: {quote(preset.column_of(Role.label) or 'label')}",
        *_column_line(
            "id_column", preset.column_of(Role.id), "names rows in predictions"
        ),
        *_column_line("group_column", preset.group, "grouped AUC goes by it"),
        *_column_line("time_column", time, "split: time cuts by it"),
        *_feature_lines(preset, Role.dense, "dense_features"),
        *_feature_lines(preset, Role.sparse, "sparse_features"),
        *_ignored_lines(preset),
        "split: random"
        + ("  # or time: oldest rows train, newest test" if time else ""),
        "split_fractions: [0.8, 0.1, 0.1]  # train, valid, test",
    ]
    if preset.num_bad_rows:
        lines += [
            f"# {preset.num_bad_rows:,} rows cannot be read: left out and listed.",
            "bad_rows: skip",
        ]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """Return ``text`` so that neither YAML nor omegaconf reads anything else."""
    # omegaconf halves the backslashes before "${", and the odd one makes it text.
    plain = re.sub(r"(\\*)\$\{", lambda marks: marks[1] * 2 + r"\${", text)
    quoted = json.dumps(plain, ensure_ascii=False)
    return _NOT_PRINTABLE.sub(lambda mark: f"\\u{ord(mark[0]):04x}", quoted)


def feature_names(columns: Sequence[str]) -> dict[str, str]:
    """Return, for each column, a feature name that can be typed in a dotted key."""
    names: dict[str, str] = {}
    for column in columns:
        base = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_") or "feature"
        base = f"f_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[column] = name
    return names


def describe_column(column: ColumnProfile) -> str:
    """Say in a few words what stands in a column."""
    more = "more than " if column.num_distinct >= MAX_DISTINCT else ""
    what = "ids" if column.kind == "list" else "values"
    text = f"{column.kind}, {more}{column.num_distinct:,} {what}"
    if column.num_missing:
        share = column.num_missing / column.num_rows
        text += f", {share:.1%} missing" if share >= 0.001 else ", few missing"
    return text


def _table_lines(preset: TablePreset) -> list[str]:
    if preset.is_parquet:
        return []
    table = preset.table
    separator = delimiter_name(table.separator)
    lines = ["table:", f"  separator: {quote(separator)}"]
    if table.encoding != "utf-8":
        lines.append(f"  encoding: {quote(table.encoding)}")
    if not table.quoting:
        lines.append("  quoting: false")
    return lines


def _column_line(key: str, column: str | None, why: str) -> list[str]:
    return [] if column is None else [f"{key}: {quote(column)}  # {why}"]


def _feature_lines(preset: TablePreset, role: Role, section: str) -> list[str]:
    used = [g for g in preset.guesses if g.role in (Role.dense, Role.sparse)]
    names = feature_names([guess.column.name for guess in used])
    lines = []
    for guess in used:
        if guess.role is not role:
            continue
        name = names[guess.column.name]
        settings = dict(guess.settings)
        if name != guess.column.name:
            settings = {"column": guess.column.name, **settings}
        body = ", ".join(f"{key}: {_value(value)}" for key, value in settings.items())
        lines.append(f"  # {describe_column(guess.column)}: {guess.reason}")
        lines.append(f"  {quote(name)}: {{{body}}}")
    return [f"{section}:", *lines] if lines else []


def _value(value: object) -> str:
    return quote(value) if isinstance(value, str) else json.dumps(value)


def _ignored_lines(preset: TablePreset) -> list[str]:
    ignored = [guess for guess in preset.guesses if guess.role is Role.ignored]
    return [
        f"# Not used: {json.dumps(guess.column.name)} ({guess.reason})"
        for guess in ignored
    ]
