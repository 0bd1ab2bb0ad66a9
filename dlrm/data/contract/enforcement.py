"""Where a contract is held: a prepared dataset, and new rows of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dlrm.config.contract import Severity
from dlrm.config.data import DataConfig
from dlrm.config.durable import write_whole
from dlrm.config.errors import WriteError
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.columns import measure_columns
from dlrm.data.contract.contract import CONTRACT_FILE, Contract, measure_input
from dlrm.data.contract.findings import (
    FINDINGS_FILE,
    Finding,
    findings_text,
    judge,
    print_warnings,
    refuse_errors,
)
from dlrm.data.contract.measuring import Measurement
from dlrm.data.contract.statistics import Gathering
from dlrm.data.sources.chunk import Chunk
from dlrm.data.storage.rows import EncodedRows

if TYPE_CHECKING:
    from dlrm.data.transforms.fitted import Observer


def judge_dataset(folder: Path, data: DataConfig) -> tuple[Finding, ...]:
    """Return a prepared dataset's findings under today's ``data.checks``.

    Raises:
        DatasetError: Its contract is damaged.
    """
    contract = Contract.load(folder)
    return () if contract is None else judge(contract.measurements, data.checks)


def enforce(folder: Path, data: DataConfig) -> None:
    """Print a dataset's findings, store them beside it, and stop at an error.

    Raises:
        DataError: A finding has the severity ``error``.
        DatasetError: The contract is damaged.
    """
    if not (folder / CONTRACT_FILE).is_file():
        return  # Prepared before there were contracts.
    findings = judge_dataset(folder, data)
    path = folder / FINDINGS_FILE
    text = findings_text(findings)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        # Whoever may only read the dataset is told, and nothing more.
        with suppress(WriteError):
            write_whole(path, text)
    print_warnings(findings)
    refuse_errors(findings)


class InputChecks:
    """Holds the rows of an input to a run's contract while they are scored."""

    def __init__(
        self,
        folder: Path,
        data: DataConfig,
        schema: FeatureSchema,
        *,
        name: str,
        with_labels: bool,
    ) -> None:
        """Read the contract in a run's folder; without one nothing is checked.

        Raises:
            DatasetError: It is damaged.
        """
        self._contract = Contract.load(folder)
        self._data, self._name, self._with_labels = data, name, with_labels
        self._gathered = Gathering(data, schema)
        self.found: list[dict[str, Any]] = []
        """The findings as data, once ``finish`` was called."""
        self._of_columns: list[Measurement] = []

    def see_columns(self, found: Mapping[str, str]) -> None:
        """Look at the raw columns by kind, before any row is read."""
        if self._contract is not None:
            known = self._contract.columns
            self._of_columns += measure_columns(
                known, found, self._data, name=self._name
            )

    def _see_missing(self, column: str) -> None:
        if all(m.feature != column for m in self._of_columns):
            self._of_columns.append(
                Measurement(
                    kind="missing_column", value=1.0, feature=column, rows=self._name
                )
            )

    def filled(self, chunk: Chunk) -> Chunk:
        """Return a chunk with the columns of features that it lacks, all missing.

        None is filled where their lack is an error, which reading the chunk names.
        """
        if self._data.checks.missing_column.severity is Severity.error:
            return chunk
        table = chunk.table
        for column, kind in _types_of(self._data).items():
            if column not in table.column_names:
                self._see_missing(column)
                table = table.append_column(column, pa.nulls(table.num_rows, kind))
        return dataclasses.replace(chunk, table=table)

    def update(self, typed: pa.Table, rows: EncodedRows) -> None:
        """Take in a chunk."""
        if self._contract is not None:
            self._gathered.update(typed, rows)

    def watching(self, observe: Observer | None) -> Observer:
        """Return an observer of ids that tells ``observe`` too."""

        def both(name: str, is_outside: np.ndarray, lengths: np.ndarray | None) -> None:
            self._gathered.observe(name, is_outside, lengths)
            if observe is not None:
                observe(name, is_outside, lengths)

        return both

    def finish(self, *, silent: bool) -> None:
        """Judge all rows: print warnings unless ``silent``, and stop at an error.

        Raises:
            DataError: A finding has the severity ``error``.
        """
        findings = self.findings()
        self.found += [dataclasses.asdict(finding) for finding in findings]
        if not silent:
            print_warnings(findings)
        refuse_errors(findings)

    def findings(self) -> tuple[Finding, ...]:
        """Return what is beyond the run's ``data.checks``, once all rows were seen."""
        measured = list(self._of_columns)
        if self._contract is not None:
            measured += measure_input(
                self._contract,
                self._gathered,
                self._data,
                name=self._name,
                with_labels=self._with_labels,
            )
        return judge(measured, self._data.checks)


def _types_of(data: DataConfig) -> dict[str, pa.DataType]:
    """Return a type that each feature's raw column may have."""
    found: dict[str, pa.DataType] = {
        feature.column or name: pa.string()
        for name, feature in data.dense_features.items()
    }
    for name, sparse in data.sparse_features.items():
        cut = sparse.delimiter is not None or sparse.text is not None
        lists = sparse.multi_hot and not cut
        found[sparse.column or name] = pa.list_(pa.string()) if lists else pa.string()
    return found
