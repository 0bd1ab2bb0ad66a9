"""The fitted feature schema: what ``prepare`` learned.

It is all that a model knows of its input. It is stored with the dataset, copied into
every run, and checked whenever data meets a model.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlrm.config.errors import DatasetError
from dlrm.config.features import (
    DenseFeature,
    Encoding,
    Missing,
    OutOfRange,
    Pooling,
    SparseFeature,
)

FORMAT_VERSION = 1
SCHEMA_FILE = "schema.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedDense:
    """A dense feature with the statistics of the training rows."""

    name: str
    feature: DenseFeature
    mean: float = 0.0
    """Of the clipped, log1p-ed training values."""
    std: float = 1.0

    @property
    def num_columns(self) -> int:
        """Columns of the dense matrix: the value and, if asked for, its indicator."""
        return 1 + self.feature.missing_indicator


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedSparse:
    """A sparse feature with its table's size and its modelling options."""

    name: str
    feature: SparseFeature
    table: str
    num_embeddings: int
    """Rows of ``table``, the shared row 0 of a vocabulary included."""
    boundaries: tuple[float, ...] = ()
    """For ``bucketize``: bucket i + 1 holds boundaries[i - 1] <= x < boundaries[i]."""

    @property
    def weighted(self) -> bool:
        """Say whether each id comes with a weight."""
        return self.feature.weight_column is not None

    @property
    def group(self) -> str:
        """The batch's ``KeyedJaggedTensor`` that holds this feature."""
        return "weighted" if self.weighted else "pooled"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSummary:
    """Size and label prior of one split."""

    num_rows: int
    num_positives: float
    """Sum of the labels, weighted where there are sample weights."""
    total_weight: float

    @property
    def prior(self) -> float:
        """The weighted click rate; 0 for an empty split."""
        return self.num_positives / self.total_weight if self.total_weight else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSchema:
    """Features as fitted, in the order of a batch's dense columns and sparse keys."""

    name: str
    label: str
    dense: tuple[FittedDense, ...]
    sparse: tuple[FittedSparse, ...]
    splits: dict[str, SplitSummary] = field(default_factory=dict)
    kept_columns: tuple[str, ...] = ()
    """Raw columns kept in the side files, in order."""
    fingerprint: str = ""
    """Hash of the raw files and of every setting that shapes the dataset."""

    @property
    def num_dense(self) -> int:
        """Columns of the dense matrix."""
        return sum(feature.num_columns for feature in self.dense)

    def num_rows(self, split: str) -> int:
        """Return the size of a split, 0 where there is none of that name."""
        return self.splits[split].num_rows if split in self.splits else 0

    @property
    def groups(self) -> dict[str, tuple[FittedSparse, ...]]:
        """The sparse features of each group that has any, in schema order."""
        found: dict[str, tuple[FittedSparse, ...]] = {}
        for feature in self.sparse:
            found[feature.group] = (*found.get(feature.group, ()), feature)
        return found

    @property
    def one_hot(self) -> tuple[FittedSparse, ...]:
        """The features with exactly one id a row."""
        return tuple(f for f in self.sparse if not f.feature.multi_hot)

    @property
    def multi_hot(self) -> tuple[FittedSparse, ...]:
        """The features with a bag of ids a row."""
        return tuple(f for f in self.sparse if f.feature.multi_hot)

    @property
    def tables(self) -> dict[str, tuple[FittedSparse, ...]]:
        """The features that read each table, in schema order."""
        found: dict[str, tuple[FittedSparse, ...]] = {}
        for feature in self.sparse:
            found[feature.table] = (*found.get(feature.table, ()), feature)
        return found

    def to_json(self) -> str:
        """Return the schema as JSON text."""
        content = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, default=lambda member: member.value) + "\n"

    def save(self, folder: Path) -> None:
        """Write ``schema.json`` into ``folder``."""
        (folder / SCHEMA_FILE).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(
        cls, text: str | bytes, *, origin: str | Path = SCHEMA_FILE
    ) -> FeatureSchema:
        """Rebuild a schema from ``to_json``'s text; errors name its ``origin``.

        Raises:
            DatasetError: The text is not a schema of this format version.
        """
        try:
            content = json.loads(text)
            version = content.pop("format_version")
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise _damaged(origin, error) from error
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"{origin} must have format_version {FORMAT_VERSION}, but it has "
                f"{version}. Prepare the dataset anew with dlrm prepare."
            )
        try:
            return cls(**_rebuild(content))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise _damaged(origin, error) from error

    @classmethod
    def load(cls, folder: Path) -> FeatureSchema:
        """Read ``schema.json`` of a dataset or run folder.

        Raises:
            DatasetError: The file is missing, damaged or not a schema.
        """
        path = folder / SCHEMA_FILE
        if not path.is_file():
            raise DatasetError(
                f"A dataset or run folder must hold {SCHEMA_FILE}, but {folder} does "
                f"not. Check the path, or prepare the dataset with dlrm prepare."
            )
        return cls.from_json(path.read_bytes(), origin=path)

    def with_model_options(
        self, features: dict[str, SparseFeature], embedding_dim: int
    ) -> FeatureSchema:
        """Return the schema with widths and pooling of today's config.

        Widths and pooling do not shape a dataset, so a prepared one serves any of them.
        """
        sparse = tuple(
            dataclasses.replace(
                fitted,
                feature=dataclasses.replace(
                    fitted.feature,
                    pooling=features[fitted.name].pooling,
                    embedding_dim=features[fitted.name].embedding_dim or embedding_dim,
                ),
            )
            for fitted in self.sparse
        )
        return dataclasses.replace(self, sparse=sparse)


def _damaged(origin: str | Path, error: Exception) -> DatasetError:
    return DatasetError(
        f"{origin} must be JSON as dlrm prepare writes it, but it is damaged "
        f"({type(error).__name__}: {error}). Prepare the dataset anew with dlrm "
        f"prepare."
    )


def _rebuild(content: dict[str, Any]) -> dict[str, Any]:
    splits = content["splits"].items()
    return {
        **content,
        "dense": tuple(_rebuild_dense(entry) for entry in content["dense"]),
        "sparse": tuple(_rebuild_sparse(entry) for entry in content["sparse"]),
        "splits": {name: SplitSummary(**entry) for name, entry in splits},
        "kept_columns": tuple(content["kept_columns"]),
    }


def _rebuild_dense(entry: dict[str, Any]) -> FittedDense:
    options = dict(entry["feature"])
    options["missing"] = Missing(options["missing"])
    return FittedDense(**{**entry, "feature": DenseFeature(**options)})


def _rebuild_sparse(entry: dict[str, Any]) -> FittedSparse:
    options = dict(entry["feature"])
    options["encoding"] = Encoding(options["encoding"])
    options["out_of_range"] = OutOfRange(options["out_of_range"])
    options["pooling"] = Pooling(options["pooling"])
    boundaries = tuple(entry["boundaries"])
    return FittedSparse(
        **{**entry, "feature": SparseFeature(**options), "boundaries": boundaries}
    )
