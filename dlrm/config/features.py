"""How columns become features: one section a feature, keyed by the feature's name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from dlrm.config.checks import require
from dlrm.config.delimiters import bag_delimiter
from dlrm.config.text import TextOptions

MAX_EMBEDDINGS = 2**31 - 1


class Encoding(Enum):
    """How a raw value becomes a row number of an embedding table."""

    vocabulary = "vocabulary"
    """Values seen in training, most frequent first; row 0 is shared by all others."""
    hash = "hash"
    """A 64-bit hash of the value modulo ``num_embeddings``."""
    identity = "identity"
    """The value is the row number itself, 0 to ``num_embeddings - 1``."""
    bucketize = "bucketize"
    """A number's bucket between boundaries; row 0 is for missing values."""


class OutOfRange(Enum):
    """What happens to an id that its table does not have."""

    error = "error"
    oov = "oov"
    clamp = "clamp"
    hash = "hash"


class Pooling(Enum):
    """How the embeddings x of one bag, with weights w, become one vector.

    Weights are 1 where there is no ``weight_column``; an empty bag becomes zeros.
    """

    sum = "sum"
    """sum(w x)."""
    mean = "mean"
    """sum(w x) / sum(w)."""
    max = "max"
    """The maximum of w x, column by column."""
    sqrtn = "sqrtn"
    """sum(w x) / sqrt(sum(w^2))."""
    attention = "attention"
    """sum(a x), where the a of a bag sum to 1 and are proportional to
    w exp(x . q / sqrt(embedding_dim)); q is learned, one a feature, and w >= 0."""

    @property
    def is_linear(self) -> bool:
        """Say whether the vector is a sum of the rows with factors of the bag alone."""
        return self in (Pooling.sum, Pooling.mean, Pooling.sqrtn)


class Missing(Enum):
    """What a missing dense value becomes before the other transforms."""

    zero = "zero"
    mean = "mean"
    error = "error"


@dataclass(kw_only=True, slots=True)
class DenseFeature:
    """One number a row. Order: missing, clip, log1p, standardize."""

    column: str | None = None
    """Raw column; the feature's own name where not set."""
    missing: Missing = Missing.zero
    """``mean`` is the training rows' mean of the clipped, log1p-ed values."""
    missing_indicator: bool = False
    """Adds a second dense column: 1 where the value was missing, else 0."""
    clip_min: float | None = None
    clip_max: float | None = None
    """Limits on the raw value."""
    log1p: bool = False
    """sign(x) * log(1 + |x|), so that negative counts stay ordered."""
    standardize: bool = True
    """Subtract the training rows' mean and divide by their standard deviation."""

    def check(self, key: str) -> None:
        """Check ranges; ``key`` is this section's key as typed."""
        low, high = self.clip_min, self.clip_max
        for name, limit in (("clip_min", low), ("clip_max", high)):
            finite = limit is None or math.isfinite(limit)
            require(finite, f"{key}.{name}", "a finite number", limit)
        sound = low is None or high is None or low < high
        require(sound, f"{key}.clip_min", f"below clip_max={high}", low)


@dataclass(kw_only=True, slots=True)
class SparseFeature:
    """One id a row, or a bag of ids, looked up in an embedding table."""

    column: str | None = None
    """Raw column; the feature's own name where not set."""
    encoding: Encoding = Encoding.vocabulary
    min_frequency: int = 1
    """Training occurrences a value needs for a vocabulary row of its own."""
    num_embeddings: int | None = None
    """Rows of the table: required for ``hash`` and ``identity``; for ``vocabulary``
    at most this many, the most frequent values kept."""
    out_of_range: OutOfRange = OutOfRange.oov
    """For values outside the vocabulary (``error``, ``oov`` or ``hash``, which shares
    the known rows) and for ``identity`` ids outside the table (all four; ``oov`` is row
    0)."""
    num_buckets: int = 0
    """For ``bucketize``: equal-frequency buckets fitted on the training rows."""
    boundaries: list[float] | None = None
    """For ``bucketize``: fixed boundaries, ascending, instead of ``num_buckets``."""
    multi_hot: bool = False
    """The column holds lists, or strings that ``delimiter`` cuts into lists."""
    delimiter: str | None = None
    """Separates the ids of one bag: a character, or ``comma``, ``tab``, ``pipe``,
    ``caret``, ``semicolon``, ``space``, or ``brackets`` for texts like ``['a', 'b']``
    and ``[1, 2]``, which JSON and pandas write."""
    weight_column: str | None = None
    """Column with one weight an id: a list, or numbers cut by the same delimiter."""
    max_length: int | None = None
    """Ids of one bag beyond this many are dropped, the first ones kept."""
    table: str | None = None
    """Features that name the same table share its rows; the feature's own name where
    not set."""
    embedding_dim: int | None = None
    """Width of the table; ``model.embedding_dim`` where not set."""
    pooling: Pooling = Pooling.sum
    text: TextOptions | None = None
    """For a column of running text: cuts it into words and n-grams."""

    def check(self, key: str) -> None:
        """Check ranges and contradictions; ``key`` is this section's key as typed."""
        require(
            self.min_frequency >= 1, f"{key}.min_frequency", ">= 1", self.min_frequency
        )
        for name in ("num_embeddings", "max_length", "embedding_dim"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{key}.{name}", ">= 1", value)
        size = self.num_embeddings
        fits = size is None or size <= MAX_EMBEDDINGS
        limit = f"at most {MAX_EMBEDDINGS}, as ids have 32 bits"
        require(fits, f"{key}.num_embeddings", limit, size)
        self._check_bags(key)
        self._check_encoding(key)
        if self.encoding is Encoding.bucketize:
            self._check_buckets(key)
        if self.text is not None:
            self._check_text(self.text, key)

    def _check_bags(self, key: str) -> None:
        if self.delimiter is not None:
            bag_delimiter(self.delimiter, key=f"{key}.delimiter")
        if self.multi_hot:
            return
        for name in ("delimiter", "weight_column", "max_length"):
            value = getattr(self, name)
            wanted = "unset for a feature of one id a row"
            hint = f"Set {key}.multi_hot=true where rows have several."
            require(value is None, f"{key}.{name}", wanted, value, hint)

    def _check_text(self, text: TextOptions, key: str) -> None:
        text.check(f"{key}.text")
        for name, wanted in (
            ("multi_hot", True),
            ("encoding", Encoding.vocabulary),
            ("out_of_range", OutOfRange.oov),
            ("delimiter", None),
            ("weight_column", None),
        ):
            value = getattr(self, name)
            shown = getattr(wanted, "value", wanted)
            requirement = f"{'unset' if wanted is None else shown} for running text"
            value = getattr(value, "value", value)
            require(value == shown, f"{key}.{name}", requirement, value)

    def _check_encoding(self, key: str) -> None:
        """Refuse a missing size, and settings that another encoding would read."""
        encoding = self.encoding
        if encoding in (Encoding.hash, Encoding.identity):
            require(
                self.num_embeddings is not None,
                f"{key}.num_embeddings",
                f"set for encoding={encoding.value}",
                None,
            )
        for name, (default, encodings) in _READ_BY.items():
            value = getattr(self, name)
            readers = " or ".join(reader.value for reader in encodings)
            require(
                encoding in encodings or value == default,
                f"{key}.{name}",
                f"left alone for encoding={encoding.value}, which does not read it",
                getattr(value, "value", value),
                f"Leave it out, or set {key}.encoding to {readers}.",
            )
        clamps = self.out_of_range is OutOfRange.clamp
        require(
            not clamps or encoding is not Encoding.vocabulary,
            f"{key}.out_of_range",
            "error, oov or hash for encoding=vocabulary, whose values have no order",
            "clamp",
        )

    def _check_buckets(self, key: str) -> None:
        boundaries = self.boundaries
        require(
            (self.num_buckets >= 2) != (boundaries is not None),
            f"{key}.num_buckets",
            "at least 2 for encoding=bucketize, unless boundaries are given instead",
            f"{self.num_buckets}, with boundaries={boundaries}",
        )
        ascending = boundaries is None or (
            len(boundaries) > 0
            and all(math.isfinite(boundary) for boundary in boundaries)
            and sorted(set(boundaries)) == boundaries
        )
        require(ascending, f"{key}.boundaries", "finite and ascending", boundaries)
        require(not self.multi_hot, f"{key}.multi_hot", "false for bucketize", True)


_READ_BY: dict[str, tuple[object, tuple[Encoding, ...]]] = {
    "min_frequency": (1, (Encoding.vocabulary,)),
    "num_embeddings": (
        None,
        (Encoding.vocabulary, Encoding.hash, Encoding.identity),
    ),
    "out_of_range": (OutOfRange.oov, (Encoding.vocabulary, Encoding.identity)),
    "num_buckets": (0, (Encoding.bucketize,)),
    "boundaries": (None, (Encoding.bucketize,)),
}
"""Settings that only some encodings read: their default, and those encodings."""
