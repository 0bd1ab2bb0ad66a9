"""Read a prepared dataset: memory-mapped rows by number, and their side columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.errors import DatasetError
from dlrm.config.schema import FeatureSchema
from dlrm.config.strangers import refuse_links
from dlrm.data.storage.layout import RecordLayout, shard_name, side_name
from dlrm.data.storage.manifest import PREPARE_ANEW, Manifest
from dlrm.data.storage.split_rows import MappedShard, SplitRows

SIDE_BATCH_ROWS = 65_536


class Dataset:
    """A folder that ``prepare`` wrote."""

    def __init__(self, folder: Path, schema: FeatureSchema, manifest: Manifest) -> None:
        """Trust that ``manifest`` describes ``folder``; ``open`` checks it."""
        self.folder = folder
        self.schema = schema
        self._manifest = manifest

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        verify: bool = True,
        split: str | None = None,
    ) -> Dataset:
        """Open a prepared dataset; sizes are always checked, checksums with ``verify``.

        Who reads the rows of one ``split`` alone need not wait for the others' checks.

        Raises:
            DatasetError: The folder is missing, not a dataset, or a file is damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(
                f"A prepared dataset must be a folder, but {folder} is not one. "
                f"Check the path, or prepare the dataset with dlrm prepare."
            )
        refuse_links(folder, DatasetError)
        manifest = Manifest.load(folder)
        manifest.verify(folder, checksums=verify, split=split)
        dataset = cls(folder, FeatureSchema.load(folder), manifest)
        dataset._check_counts()
        return dataset

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, those without rows included."""
        return tuple(self._manifest.splits)

    def split(self, name: str) -> SplitRows:
        """Map the rows of a split.

        Raises:
            DatasetError: There is no such split, or its files contradict the schema.
        """
        layout = RecordLayout.of(self.schema)
        shards = [
            MappedShard.open(self.folder / name / shard_name(index), layout, num_rows)
            for index, num_rows in enumerate(self._shard_sizes(name))
        ]
        return SplitRows(layout, shards)

    def side(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a split's side columns, row-aligned: all, or those named.

        Raises:
            DatasetError: The dataset has no such split or column.
        """
        parts = [
            pq.read_table(p, columns=columns) for p in self._side_files(name, columns)
        ]
        return pa.concat_tables(parts).unify_dictionaries()

    def side_batches(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        *,
        batch_size: int = SIDE_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield a split's side columns in row order, ``batch_size`` rows at most.

        Raises:
            DatasetError: The dataset has no such split or column.
        """
        for path in self._side_files(name, columns):
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=batch_size, columns=columns)

    def _shard_sizes(self, name: str) -> list[int]:
        if name not in self._manifest.splits:
            raise DatasetError(
                f"The split must be one of {list(self.splits)}, but it is {name!r}. "
                f"Choose one of these, or set data.split_fractions and prepare again."
            )
        return self._manifest.splits[name]

    def _side_files(self, name: str, columns: Sequence[str] | None) -> list[Path]:
        sizes = self._shard_sizes(name)
        paths = [self.folder / name / side_name(index) for index in range(len(sizes))]
        for path, num_rows in zip(paths, sizes, strict=True):
            metadata = pq.read_metadata(path)
            if metadata.num_rows != num_rows:
                raise DatasetError(
                    f"{path} must have {num_rows} rows, but it has "
                    f"{metadata.num_rows}. {PREPARE_ANEW}"
                )
            known = metadata.schema.to_arrow_schema().names
            for column in columns or ():
                if column not in known:
                    raise DatasetError(
                        f"The column must be one that was kept, {known}, but it is "
                        f"{column!r}. Add it to data.keep and prepare again."
                    )
        return paths

    def _check_counts(self) -> None:
        for name, summary in self.schema.splits.items():
            num_rows = sum(self._manifest.splits.get(name, []))
            if num_rows != summary.num_rows:
                raise DatasetError(
                    f"Split {name!r} of {self.folder} must have {summary.num_rows} "
                    f"rows, but its shards hold {num_rows}. {PREPARE_ANEW}"
                )
