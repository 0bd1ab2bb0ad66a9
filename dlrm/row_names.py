"""Which raw row a batch's row was, for errors that know a batch alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from dlrm.config.errors import BadIdError, DataError
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.batch import Batch
from dlrm.data.columns.row_faults import place
from dlrm.data.storage.dataset import Dataset
from dlrm.embeddings.id_check import find_bad_id
from dlrm.embeddings.names import module_name
from dlrm.embeddings.table_config import BagTableConfig


@contextmanager
def raw_rows_named(dataset: Dataset, split: str, batch: Batch) -> Iterator[None]:
    """Let an error about an id of ``batch`` name its raw row, file and value."""
    try:
        yield
    except BadIdError as error:
        raise _named(error, dataset, split, batch) from error


def ids_checked(
    batches: Iterable[Batch], dataset: Dataset, split: str, schema: FeatureSchema
) -> Iterator[Batch]:
    """Yield batches whose ids ``schema``'s tables have; an error names the raw row.

    A process that found a bad id within a step would leave the others waiting there.

    Raises:
        DataError: A table has no such id.
    """
    tables = [_with_a_row_an_id(name, users) for name, users in schema.tables.items()]
    for batch in batches:
        with raw_rows_named(dataset, split, batch):
            for bags in batch.sparse.values():
                error = find_bad_id(bags, tables)
                if error is not None:
                    raise error
        yield batch


def _with_a_row_an_id(table: str, users: Sequence[FittedSparse]) -> BagTableConfig:
    """Return a table as it is before any compression, as far as its ids go."""
    return BagTableConfig(
        name=module_name(table),
        num_embeddings=users[0].num_embeddings,
        embedding_dim=1,
        feature_names=[feature.name for feature in users],
    )


def watched(batches: Iterable[Batch], dataset: Dataset, split: str) -> _Watched:
    """Return batches to hand on, whose errors ``with`` names as above."""
    return _Watched(batches, dataset, split)


class _Watched:
    """Remembers the batch that was handed out last."""

    def __init__(self, batches: Iterable[Batch], dataset: Dataset, split: str) -> None:
        self._batches, self._dataset, self._split = batches, dataset, split
        self._last: Batch | None = None

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._last = batch
            yield batch

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, BadIdError) and self._last is not None:
            raise _named(error, self._dataset, self._split, self._last) from error


def _named(error: BadIdError, dataset: Dataset, split: str, batch: Batch) -> DataError:
    row = int(batch.row_ids[error.row])
    fitted = {f.name: f for f in dataset.schema.sparse}[error.feature]
    column = fitted.feature.column or fitted.name
    kept = [column] if column in dataset.schema.kept_columns else []
    side = dataset.side(split, ["__file", "__row", *kept])
    came = {name: side[name][row].as_py() for name in side.column_names}
    value = f", where '{column}' is {came[column]!r}" if kept else ""
    return DataError(
        f"{error} The row is {place(came['__file'], came['__row'])}{value}; prepared "
        f"as row {row:,} of {split} in {dataset.folder}, which may be damaged: delete "
        f"it, and it is prepared anew."
    )
