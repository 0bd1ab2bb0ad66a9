"""How columns become features: one section a feature, keyed by the feature's name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dlrm.config.checks import require


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
    """How the embeddings of one bag become one vector."""

    sum = "sum"
    mean = "mean"


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
    ``caret``, ``semicolon``, ``space``."""
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

    def check(self, key: str) -> None:
        """Check ranges and contradictions; ``key`` is this section's key as typed."""
        require(
            self.min_frequency >= 1, f"{key}.min_frequency", ">= 1", self.min_frequency
        )
        for name in ("num_embeddings", "max_length", "embedding_dim"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{key}.{name}", ">= 1", value)
        self._check_encoding(key)
        needs_list = self.delimiter is None and self.weight_column is None
        require(
            self.multi_hot or needs_list,
            f"{key}.multi_hot",
            "true where delimiter or weight_column is set",
            "false",
        )

    def _check_encoding(self, key: str) -> None:
        encoding = self.encoding
        if encoding in (Encoding.hash, Encoding.identity):
            require(
                self.num_embeddings is not None,
                f"{key}.num_embeddings",
                f"set for encoding={encoding.value}",
                None,
            )
        if encoding is Encoding.bucketize:
            one = (self.num_buckets >= 2) != (self.boundaries is not None)
            require(
                one,
                f"{key}.num_buckets",
                "at least 2 for encoding=bucketize, unless boundaries are given "
                "instead",
                f"{self.num_buckets}, with boundaries={self.boundaries}",
            )
            ascending = self.boundaries is None or (
                len(self.boundaries) > 0
                and sorted(set(self.boundaries)) == self.boundaries
            )
            require(ascending, f"{key}.boundaries", "ascending", self.boundaries)
            require(not self.multi_hot, f"{key}.multi_hot", "false for bucketize", True)
