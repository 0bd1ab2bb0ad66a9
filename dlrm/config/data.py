"""The ``data`` section: where rows come from, how they are split, what is kept."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from enum import Enum

from dlrm.config.checks import require
from dlrm.config.contract import ChecksConfig
from dlrm.config.delimiters import bag_delimiter, delimiter_text
from dlrm.config.errors import ConfigError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.tables import check_name, check_tables

SPLITS = ("train", "valid", "test")


class SourceFormat(Enum):
    """How the raw files are laid out."""

    synthetic = "synthetic"
    movielens = "movielens"
    criteo_kaggle = "criteo_kaggle"
    criteo_1tb = "criteo_1tb"
    table = "table"
    fasttext = "fasttext"
    """Lines of text with ``__label__`` words, as fastText reads them."""


class Split(Enum):
    """How rows are dealt to train, valid and test."""

    source = "source"
    """As the source says: a synthetic log's own parts, or Criteo 1TB's days."""
    random = "random"
    """Each row by a hash of (``split_seed``, row number), at ``split_fractions``."""
    time = "time"
    """Oldest rows train, newest test, cut at ``split_fractions`` of ``time_column``."""
    leave_last = "leave_last"
    """Each group's newest ``leave_last`` rows test, as many before them valid."""
    shuffle_2019 = "shuffle_2019"
    """File order, ``random.seed(2019)``, ``random.shuffle``, cut 8:1:1."""
    files = "files"
    """By file: ``data.files`` lists each split's files."""
    column = "column"
    """By ``split_column``, whose values are train, valid and test."""


class BadRows(Enum):
    """What happens to a row that cannot be read."""

    error = "error"
    """Stop and name file, line and column."""
    skip = "skip"
    """Leave it out, count it, and write it to the dataset's quarantine file."""


@dataclass(kw_only=True, slots=True)
class SyntheticSource:
    """A seeded generator of click logs with planted interactions."""

    num_rows: int = 2_500_000
    """Rows of all splits together, cut 8:1:1."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        rows = self.num_rows
        require(rows >= 10, "data.synthetic.num_rows", ">= 10, cut 8:1:1", rows)
        require(self.seed >= 0, "data.synthetic.seed", ">= 0", self.seed)


@dataclass(kw_only=True, slots=True)
class MovielensSource:
    """GroupLens's rating files as published; ratings become clicks."""

    rating_threshold: float = 3.0
    """A rating above this is a click."""
    drop_threshold_rating: bool = True
    """Drop ratings equal to the threshold, which say neither yes nor no."""


@dataclass(kw_only=True, slots=True)
class CriteoSource:
    """Criteo's Kaggle or terabyte logs as published."""

    multi_hot: bool = False
    """MLPerf DLRM-DCNv2's synthetic multi-hot bags in place of the one-hot ids."""
    multi_hot_seed: int = 0


@dataclass(kw_only=True, slots=True)
class TableSource:
    """The user's own CSV, TSV or Parquet files, gzip included."""

    separator: str = "comma"
    """Between columns: a character, or ``comma``, ``tab``, ``pipe``, ``caret``,
    ``semicolon``, ``space``. Parquet files have none."""
    quoting: bool = True
    """Whether a field may stand in double quotes; false takes quotes as plain text."""
    encoding: str = "utf-8"
    column_names: list[str] | None = None
    """Names of the columns where the files have no header line."""
    null_values: list[str] = field(
        default_factory=lambda: ["", "NA", "NaN", "nan", "null", "NULL"]
    )
    """Texts that stand for a missing value."""

    def __post_init__(self) -> None:
        """Check the dialect, naming keys as typed.

        Raises:
            ConfigError: Text of this kind could not be read.
        """
        delimiter_text(self.separator, key="data.table.separator")
        known = "an encoding that Python knows, such as utf-8 or latin-1"
        require(
            _is_encoding(self.encoding), "data.table.encoding", known, self.encoding
        )
        names = self.column_names
        sound = names is None or (len(names) > 0 and len(set(names)) == len(names))
        require(sound, "data.table.column_names", "names that differ", names)


@dataclass(kw_only=True, slots=True)
class FasttextSource:
    """fastText's files: a row a line, a label each word that starts by the prefix.

    The rows have the columns ``data.label`` (a list) and ``text`` (all other words).
    """

    label_prefix: str = "__label__"
    """What labels start with; it is no part of the class's name."""

    def __post_init__(self) -> None:
        """Check the prefix.

        Raises:
            ConfigError: No word could start with it.
        """
        prefix = self.label_prefix
        sound = len(prefix.split()) == 1 and prefix.split()[0] == prefix
        key = "data.fasttext.label_prefix"
        require(sound, key, "text without spaces", repr(prefix))


def _is_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


_SOURCE_CLASSES: dict[str, type] = {
    "synthetic": SyntheticSource,
    "movielens": MovielensSource,
    "criteo": CriteoSource,
    "table": TableSource,
    "fasttext": FasttextSource,
}
_SOURCE_SECTIONS = {
    SourceFormat.synthetic: "synthetic",
    SourceFormat.movielens: "movielens",
    SourceFormat.criteo_kaggle: "criteo",
    SourceFormat.criteo_1tb: "criteo",
    SourceFormat.table: "table",
    SourceFormat.fasttext: "fasttext",
}


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where rows come from, how they become features, and how they are split."""

    name: str
    format: SourceFormat
    source: str | None = None
    """File, folder or glob of the raw data; several are separated by ``;``."""
    files: dict[str, list[str]] = field(default_factory=dict)
    """For ``split=files``: the files of ``train``, ``valid`` and ``test``."""
    prepared: str = "prepared"
    """Folder under which prepared datasets are kept, one subfolder each."""

    synthetic: SyntheticSource | None = None
    movielens: MovielensSource | None = None
    criteo: CriteoSource | None = None
    table: TableSource | None = None
    fasttext: FasttextSource | None = None

    label: str = "label"
    """Column of what is to be predicted."""
    label_kind: LabelKind = LabelKind.click
    """Clicks, or classes: those of the training rows, most frequent first."""
    label_delimiter: str | None = None
    """For ``multilabel``: separates the classes of one row, as a feature's
    ``delimiter`` does its ids; not set where the column holds lists."""
    all_clicks: bool = False
    """Whether training rows may all be clicks, as in a log of pairs for ``retrieval``;
    otherwise that is taken for a mistake."""
    dense_features: dict[str, DenseFeature] = field(default_factory=dict)
    sparse_features: dict[str, SparseFeature] = field(default_factory=dict)
    id_column: str | None = None
    """Names a row in predictions; the row number where not set."""
    group_column: str | None = None
    """The user or query that grouped metrics and ``leave_last`` go by."""
    time_column: str | None = None
    weight_column: str | None = None
    """Sample weights, at least 0."""
    negative_keep_rate: float | None = None
    """Share of the non-clicks that were kept when the training rows were made."""
    keep_rate_column: str | None = None
    """In its place where the share differs between rows: a column with that of
    non-clicks like the row, on clicks, other splits and new rows too; 1 where missing.
    """
    sampled_splits: list[str] | None = None
    """Which of train, valid and test were thinned so; the others hold all rows."""

    split: Split = Split.random
    split_fractions: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])
    """Shares of train, valid and test; they sum to 1, and the last two may be 0."""
    split_seed: int = 0
    split_column: str | None = None
    leave_last: int = 1
    bad_rows: BadRows = BadRows.error
    keep: list[str] | None = None
    """Raw columns kept beside the rows for slices. Where not set: id, group, time and
    the one-hot features with at most 1,000 values."""
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    """What is a finding about the data, and how badly it is taken."""
    num_workers: int | None = None
    """Processes that prepare; as many as there are cores where not set. The prepared
    data is the same to the byte."""
    memory_gib: float | None = None
    """GiB that all of them may take together, so that more distinct values than fit are
    counted part by part; about 0.7 a process where not set."""

    def __post_init__(self) -> None:
        """Check ranges and contradictions, naming keys as typed.

        Raises:
            ConfigError: A value is out of range or contradicts another.
        """
        fractions = self.split_fractions
        sound = (
            len(fractions) == 3 and all(f >= 0 for f in fractions) and fractions[0] > 0
        )
        require(
            sound and abs(sum(fractions) - 1) < 1e-9,
            "data.split_fractions",
            "three shares (train, valid, test) that sum to 1, the first above 0",
            fractions,
        )
        require(self.leave_last >= 1, "data.leave_last", ">= 1", self.leave_last)
        workers, memory = self.num_workers, self.memory_gib
        require(workers is None or workers >= 1, "data.num_workers", ">= 1", workers)
        require(memory is None or memory > 0, "data.memory_gib", "above 0", memory)
        sound = bool(re.fullmatch(r"[^/\\\0.][^/\\\0]*", self.name))
        require(sound, "data.name", "a name that a folder can have", repr(self.name))
        for name, dense in self.dense_features.items():
            check_name(name, f"data.dense_features.{name}")
            dense.check(f"data.dense_features.{name}")
        for name, sparse in self.sparse_features.items():
            sparse.check(f"data.sparse_features.{name}")
        check_tables(self.sparse_features)
        self._refuse_label_as_feature()
        self._check_label()
        self._check_keep_rate()
        self._check_columns()
        self._check_files()
        self._check_source_sections()

    def _check_source_sections(self) -> None:
        """Refuse another format's section; give the format's own its defaults."""
        own = _SOURCE_SECTIONS[self.format]
        for name in _SOURCE_CLASSES:
            if name != own and getattr(self, name) is not None:
                raise ConfigError(
                    f"data.{name} must be unset for format={self.format.value}, "
                    f"but it is set. Set data.{own}, or choose another data.format."
                )
        if getattr(self, own) is None:
            setattr(self, own, _SOURCE_CLASSES[own]())

    def _refuse_label_as_feature(self) -> None:
        """Refuse a model that would be told the answer."""
        columns = {
            f"data.dense_features.{name}.column": feature.column or name
            for name, feature in self.dense_features.items()
        }
        for name, feature in self.sparse_features.items():
            key = f"data.sparse_features.{name}"
            columns[f"{key}.column"] = feature.column or name
            columns[f"{key}.weight_column"] = feature.weight_column or ""
        for key, column in columns.items():
            require(column != self.label, key, "another column than data.label", column)

    def _check_label(self) -> None:
        if self.label_delimiter is None:
            return
        key = "data.label_delimiter"
        require(
            self.label_kind is LabelKind.multilabel,
            key,
            f"unset for label_kind={self.label_kind.value}",
            self.label_delimiter,
        )
        bag_delimiter(self.label_delimiter, key=key)

    @property
    def keep_rate_key(self) -> str | None:
        """The key by which the share of kept non-clicks is given; None without one."""
        if self.keep_rate_column is not None:
            return "data.keep_rate_column"
        return None if self.negative_keep_rate is None else "data.negative_keep_rate"

    def _check_keep_rate(self) -> None:
        rate, key, splits = (
            self.negative_keep_rate,
            self.keep_rate_key,
            self.sampled_splits,
        )
        if rate is not None:
            require(0 < rate <= 1, "data.negative_keep_rate", "in (0, 1]", rate)
            both = self.keep_rate_column is not None
            wanted = "unset beside data.keep_rate_column"
            require(not both, "data.negative_keep_rate", wanted, rate)
        if key is None:
            wanted = "unset without data.negative_keep_rate or data.keep_rate_column"
            require(splits is None, "data.sampled_splits", wanted, splits)
            return
        known = splits is not None and "train" in splits and {*splits} <= {*SPLITS}
        require(
            known,
            "data.sampled_splits",
            f"train and those of valid and test that were thinned too, as {key} is set",
            splits,
            hint="Type, for example, data.sampled_splits=[train,valid]",
        )
        if self.keep_rate_column is not None:
            wanted = "another column than data.label"
            require(self.keep_rate_column != self.label, key, wanted, self.label)

    def _check_files(self) -> None:
        for name in self.files:
            require(
                name in SPLITS,
                f"data.files.{name}",
                f"one of {', '.join(SPLITS)}",
                repr(name),
            )
        if self.split is Split.files and not self.files.get("train"):
            raise ConfigError(
                "data.files.train must list the training files, but it is not set. "
                "Type, for example, data.files.train=[monday.csv,tuesday.csv]"
            )

    def _check_columns(self) -> None:
        needs = {
            Split.time: ("time_column", self.time_column),
            Split.leave_last: ("group_column", self.group_column),
            Split.column: ("split_column", self.split_column),
            Split.files: ("files", self.files),
        }
        key, value = needs.get(self.split, ("", "set"))
        if not value:
            raise ConfigError(
                f"data.split={self.split.value} needs data.{key}, which is not set. "
                f"Set data.{key}, or choose another data.split."
            )
