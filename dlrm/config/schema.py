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

from dlrm.config.errors import ConfigError, DatasetError
from dlrm.config.features import (
    DenseFeature,
    Encoding,
    Missing,
    OutOfRange,
    Pooling,
    SparseFeature,
)
from dlrm.config.labels import LabelKind
from dlrm.config.model import ModelConfig
from dlrm.config.sections import check_section
from dlrm.config.strangers import parse_json
from dlrm.config.table_options import Combine, Pretrained, TableOptions
from dlrm.config.text import TextOptions

FORMAT_VERSION = 2
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
    """Ids of ``table``, the shared row 0 of a vocabulary included; the table has as
    many rows unless it is compressed."""
    boundaries: tuple[float, ...] = ()
    """For ``bucketize``: bucket i + 1 holds boundaries[i - 1] <= x < boundaries[i]."""
    derived_from: str = ""
    """For a table that a model adds: the data's table whose ids it reads."""

    @property
    def weighted(self) -> bool:
        """Say whether each id comes with a weight."""
        return self.feature.weight_column is not None

    @property
    def num_buckets(self) -> int:
        """Ids behind the vocabulary's that n-grams of a text share, by hash."""
        return self.feature.text.num_buckets if self.feature.text else 0

    @property
    def num_known(self) -> int:
        """Ids of the vocabulary, the shared row 0 included."""
        return self.num_embeddings - self.num_buckets

    @property
    def vocabulary(self) -> str:
        """The table that the vocabulary is kept under."""
        return self.derived_from or self.table

    @property
    def pooling(self) -> Pooling:
        """How bags are pooled: one id by sum, which every pooling makes of it."""
        return self.feature.pooling if self.feature.multi_hot else Pooling.sum


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
    label_kind: LabelKind = LabelKind.click
    num_classes: int = 0
    """Classes of the training rows; 0 for clicks."""
    splits: dict[str, SplitSummary] = field(default_factory=dict)
    kept_columns: tuple[str, ...] = ()
    """Raw columns kept in the side files, in order."""
    fingerprint: str = ""
    """Hash of the raw files and of every setting that shapes the dataset."""
    table_options: dict[str, TableOptions] = field(default_factory=dict)
    """By table, of a run's schema; a dataset's has none."""

    @property
    def num_dense(self) -> int:
        """Columns of the dense matrix."""
        return sum(feature.num_columns for feature in self.dense)

    @property
    def num_outputs(self) -> int:
        """Logits a row: one for clicks, else one a class."""
        return self.num_classes or 1

    @property
    def num_label_bags(self) -> int:
        """Bags of class ids that are stored behind those of the features: 0 or 1."""
        return int(self.label_kind is not LabelKind.click)

    def num_rows(self, split: str) -> int:
        """Return the size of a split, 0 where there is none of that name."""
        return self.splits[split].num_rows if split in self.splits else 0

    @property
    def groups(self) -> dict[str, tuple[FittedSparse, ...]]:
        """The sparse features of each group that has any, in schema order.

        A group is one ``KeyedJaggedTensor`` of a batch and one embedding collection:
        ``pooled``, ``weighted``, or, for tables whose rows are needed one by one, a
        ``sequence`` or ``weighted_sequence`` a width, such as ``sequence_16``.
        """
        group_of = {table: self._group(table) for table in self.tables}
        found: dict[str, tuple[FittedSparse, ...]] = {}
        for feature in self.sparse:
            group = group_of[feature.table]
            found[group] = (*found.get(group, ()), feature)
        return found

    def _group(self, table: str) -> str:
        features = self.tables[table]
        weighted = any(fitted.weighted for fitted in features)
        combined = self.options(table).compression.combine is Combine.product
        if not combined and all(fitted.pooling.is_linear for fitted in features):
            return "weighted" if weighted else "pooled"
        kind = "weighted_sequence" if weighted else "sequence"
        return f"{kind}_{features[0].feature.embedding_dim}"

    def options(self, table: str) -> TableOptions:
        """Return a table's options, all of them defaults where none are known."""
        return self.table_options.get(table) or TableOptions()

    def table_rows(self, table: str) -> int:
        """Return the rows of a table: its ids, or fewer where it is compressed."""
        compression = self.options(table).compression
        return compression.table_rows(self.tables[table][0].num_embeddings)

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
            content = parse_json(text)
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
        except (ValueError, TypeError, AttributeError, KeyError, ConfigError) as error:
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
        self,
        features: dict[str, SparseFeature],
        tables: dict[str, TableOptions],
        model: ModelConfig,
    ) -> FeatureSchema:
        """Return the schema with widths, pooling and table options of today's config.

        They do not shape a dataset, so a prepared one serves any of them.
        """
        sparse = tuple(
            dataclasses.replace(
                fitted,
                feature=dataclasses.replace(
                    fitted.feature,
                    pooling=features[fitted.name].pooling,
                    embedding_dim=features[fitted.name].embedding_dim
                    or model.embedding_dim,
                ),
            )
            for fitted in self.sparse
        )
        options = {
            table: dataclasses.replace(
                own,
                dtype=own.dtype or model.embedding_dtype,
                init=own.init or model.embedding_init,
            )
            for table in self.tables
            for own in [tables.get(table) or TableOptions()]
        }
        return dataclasses.replace(self, sparse=sparse, table_options=options)

    def derived(self, kind: str, *, embedding_dim: int) -> FeatureSchema:
        """Return a schema of further tables for the same features, ``<table>/<kind>``.

        They are as wide as ``embedding_dim`` and share ids, compression, padding, type,
        start and optimizer with the tables they derive from. Poolings that are not
        linear become means.
        """
        sparse = tuple(
            dataclasses.replace(
                fitted,
                table=f"{fitted.table}/{kind}",
                derived_from=fitted.vocabulary,
                feature=dataclasses.replace(
                    fitted.feature,
                    embedding_dim=embedding_dim,
                    pooling=fitted.feature.pooling
                    if fitted.feature.pooling.is_linear
                    else Pooling.mean,
                ),
            )
            for fitted in self.sparse
        )
        options = {
            f"{table}/{kind}": dataclasses.replace(
                self.options(table), max_norm=None, pretrained=Pretrained()
            )
            for table in self.tables
        }
        return dataclasses.replace(self, sparse=sparse, table_options=options)


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
        "label_kind": LabelKind(content["label_kind"]),
        "splits": {name: SplitSummary(**entry) for name, entry in splits},
        "kept_columns": tuple(content["kept_columns"]),
        "table_options": {
            table: check_section(TableOptions, entry, key=f"table_options.{table}")
            for table, entry in content["table_options"].items()
        },
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
    if options["text"] is not None:
        options["text"] = TextOptions(**options["text"])
    boundaries = tuple(entry["boundaries"])
    return FittedSparse(
        **{**entry, "feature": SparseFeature(**options), "boundaries": boundaries}
    )
