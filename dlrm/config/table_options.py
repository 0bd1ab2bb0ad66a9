"""Options of embedding tables, one section a table: ``tables.<table>``."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from enum import Enum

from dlrm.config.checks import require
from dlrm.config.embedding_init import EmbeddingInit
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import TableSharding


class TableDtype(Enum):
    """The type that a table's rows are stored in; optimizer state is float32."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Gradient(Enum):
    """Which rows an optimizer step sees."""

    sparse = "sparse"
    """The looked-up rows alone, as ``nn.EmbeddingBag(sparse=True)``."""
    dense = "dense"
    """All rows, the others with a gradient of zero, as ``sparse=False``: moments and
    weight decay then move them too."""


class CompressionMethod(Enum):
    """How many ids share fewer rows."""

    none = "none"
    quotient_remainder = "quotient_remainder"
    """One row for id // divisor and one for id % divisor (Shi et al. 2020)."""
    multi_probe = "multi_probe"
    """``num_probes`` hashed rows an id (Serra and Karatzoglou 2017)."""


class Combine(Enum):
    """How the rows of one id become its vector."""

    sum = "sum"
    product = "product"


@dataclass(kw_only=True, slots=True)
class Compression:
    """A smaller table in which every id is made of several rows."""

    method: CompressionMethod = CompressionMethod.none
    divisor: int | None = None
    """For ``quotient_remainder``; the square root of the ids, rounded up, where not
    set."""
    num_rows: int | None = None
    """For ``multi_probe``: rows of the table."""
    num_probes: int = 2
    """For ``multi_probe``: rows an id."""
    combine: Combine = Combine.sum

    def check(self, key: str) -> None:
        """Check ranges and contradictions; ``key`` is this section's key as typed."""
        method = self.method
        for name in ("divisor", "num_rows", "num_probes"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{key}.{name}", ">= 1", value)
        probes = method is CompressionMethod.multi_probe
        remainder = method is CompressionMethod.quotient_remainder
        unread = f"unset for method={method.value}, which does not read it"
        require(remainder or self.divisor is None, f"{key}.divisor", unread, "set")
        require(probes or self.num_rows is None, f"{key}.num_rows", unread, "set")
        sized = not probes or self.num_rows is not None
        require(sized, f"{key}.num_rows", "set for method=multi_probe", None)

    def table_rows(self, num_ids: int) -> int:
        """Return the rows of the table that ``num_ids`` ids are made of."""
        match self.method:
            case CompressionMethod.none:
                return num_ids
            case CompressionMethod.quotient_remainder:
                divisor = self.divisor_for(num_ids)
                return -(-num_ids // divisor) + divisor
            case CompressionMethod.multi_probe:
                assert self.num_rows is not None
                return self.num_rows

    def divisor_for(self, num_ids: int) -> int:
        """Return the divisor of ``quotient_remainder`` for ``num_ids`` ids."""
        return self.divisor or math.isqrt(max(num_ids - 1, 0)) + 1

    @property
    def rows_per_id(self) -> int:
        """How many rows one id is made of."""
        match self.method:
            case CompressionMethod.none:
                return 1
            case CompressionMethod.quotient_remainder:
                return 2
            case CompressionMethod.multi_probe:
                return self.num_probes


@dataclass(kw_only=True, slots=True)
class TableOptimizer:
    """A table's own optimizer; what is not set is that of ``optimizer.sparse``."""

    name: SparseOptimizerName | None = None
    lr: float | None = None
    eps: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    clip_value: float | None = None

    def check(self, key: str) -> None:
        """Check ranges; ``key`` is this section's key as typed."""
        own = self.resolved(SparseOptimizer())
        own.check(key)

    def resolved(self, default: SparseOptimizer) -> SparseOptimizer:
        """Return ``default`` with this section's settings on top."""
        own = {
            entry.name: value
            for entry in dataclasses.fields(self)
            if (value := getattr(self, entry.name)) is not None
        }
        return dataclasses.replace(default, **own)


@dataclass(kw_only=True, slots=True)
class Pretrained:
    """Vectors that a table starts from."""

    path: str | None = None
    """A Parquet file with a column of keys, or an npy file [rows, dim] in row order."""
    key_column: str = "key"
    """For Parquet: the column of raw values, as the data has them."""
    vector_column: str = "vector"
    """For Parquet: the column of lists of ``embedding_dim`` numbers."""


@dataclass(kw_only=True, slots=True)
class TableOptions:
    """One table's options, in ``torch.nn.EmbeddingBag``'s words where it has any."""

    padding_idx: int | None = None
    """Row that is zero at the start, never trained and never pooled; negative counts
    from the end. Row 0 of a vocabulary stands for all unknown values."""
    max_norm: float | None = None
    """Limit on a row's norm: a looked-up row beyond it is rescaled before pooling."""
    norm_type: float = 2.0
    """The p of that norm."""
    scale_grad_by_freq: bool = False
    """Divide a row's gradient by its number of uses in the global batch."""
    gradient: Gradient = Gradient.sparse
    dtype: TableDtype | None = None
    """``model.embedding_dtype`` where not set."""
    stochastic_rounding: bool = True
    """For float16 and bfloat16: round updates up or down at random, right on average,
    so that small ones are not lost."""
    init: EmbeddingInit | None = None
    """``model.embedding_init`` where not set."""
    optimizer: TableOptimizer = field(default_factory=TableOptimizer)
    frozen: bool = False
    """Never trained."""
    pretrained: Pretrained = field(default_factory=Pretrained)
    admit_after: int = 0
    """Lookups in training that a row needs before it counts: until then it is zero and
    not trained."""
    compression: Compression = field(default_factory=Compression)
    sharding: TableSharding = field(default_factory=TableSharding)

    def check(self, key: str) -> None:
        """Check ranges and contradictions; ``key`` is this section's key as typed."""
        norm = self.max_norm
        require(norm is None or norm > 0, f"{key}.max_norm", "above 0", norm)
        power = self.norm_type
        require(power > 0, f"{key}.norm_type", "above 0", power)
        admit = self.admit_after
        require(admit >= 0, f"{key}.admit_after", ">= 0", admit)
        if self.init is not None:
            self.init.check(f"{key}.init")
        self.optimizer.check(f"{key}.optimizer")
        self.compression.check(f"{key}.compression")
        self.sharding.check(f"{key}.sharding")
        if self.compression.method is not CompressionMethod.none:
            self._check_compressed(key)

    def _check_compressed(self, key: str) -> None:
        """Refuse what is meant for a row that stands for one id."""
        for name, default in (
            ("padding_idx", None),
            ("admit_after", 0),
        ):
            value = getattr(self, name)
            wanted = "left alone for a compressed table, whose rows many ids share"
            require(value == default, f"{key}.{name}", wanted, value)
        path = self.pretrained.path
        wanted = "unset for a compressed table, whose rows stand for no value"
        require(path is None, f"{key}.pretrained.path", wanted, path)
