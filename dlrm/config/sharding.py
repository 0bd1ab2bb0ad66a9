"""How embedding tables lie on the processes of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dlrm.config.checks import require


class Strategy(Enum):
    """Where a table's rows and columns are kept, looked up and trained."""

    table_wise = "table_wise"
    """The whole table on one process."""
    row_wise = "row_wise"
    """Equal ranges of rows, one a process."""
    column_wise = "column_wise"
    """Ranges of columns, each on a process."""
    table_row_wise = "table_row_wise"
    """Equal ranges of rows, one a process of a single node."""
    table_column_wise = "table_column_wise"
    """Ranges of columns, each on a process of a single node."""
    grid = "grid"
    """Ranges of columns, one a node, and of rows over the node's processes."""
    data_parallel = "data_parallel"
    """A replica on every process, trained on all processes' examples."""


class Storage(Enum):
    """What memory a part of a table lies in, and what updates it."""

    fused = "fused"
    """The memory of the device; rows are updated in backward."""
    fused_uvm = "fused_uvm"
    """The host's memory, which the GPU reads through its bus."""
    fused_uvm_caching = "fused_uvm_caching"
    """The host's memory, with the rows in use cached on the GPU."""
    dense = "dense"
    """The memory of the device, by torch's own kernels."""
    key_value = "key_value"
    """A key-value store on local disks."""


class Precision(Enum):
    """The type that vectors and gradients travel in between processes."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@dataclass(kw_only=True, slots=True)
class CommunicationConfig:
    """How vectors and gradients travel; all but ``fp32`` need ``exact=false``."""

    forward: Precision = Precision.fp32
    """Pooled vectors, to where their examples are."""
    backward: Precision = Precision.fp32
    """Their gradients, to where the tables are."""


@dataclass(kw_only=True, slots=True)
class ShardingConfig:
    """The ``sharding`` section: of all tables that say nothing else."""

    strategy: Strategy | None = None
    """The planner's choice, table by table, where not set."""
    storage: Storage | None = None
    """``fused`` where not set: slower memory is never taken unasked."""
    exact: bool = True
    """Refuse what does not train as one process would."""
    communication: CommunicationConfig = field(default_factory=CommunicationConfig)
    replicas: int = 1
    """Groups of processes that hold all tables each (2-D parallelism)."""
    sync_every: int = 1
    """Steps between averaging the tables of the groups."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        for name in ("replicas", "sync_every"):
            value = getattr(self, name)
            require(value >= 1, f"sharding.{name}", ">= 1", value)
        if self.exact:
            self._check_exact()

    def _check_exact(self) -> None:
        """Refuse what rounds or delays what tables are trained with."""
        inexact = "unless sharding.exact=false, as one process does"
        for name in ("forward", "backward"):
            kind: Precision = getattr(self.communication, name)
            key = f"sharding.communication.{name}"
            require(kind is Precision.fp32, key, f"fp32 {inexact}", kind.value)
        together = self.replicas == 1 or self.sync_every == 1
        require(together, "sharding.sync_every", f"1 {inexact}", self.sync_every)


@dataclass(kw_only=True, slots=True)
class TableSharding:
    """A table's own constraints; what is not set is that of ``sharding``."""

    strategy: Strategy | None = None
    storage: Storage | None = None
    cache_load_factor: float | None = None
    """For ``fused_uvm_caching``: the share of the rows that the GPU caches; 0.2 where
    not set."""
    num_column_shards: int | None = None
    """For ``column_wise``, ``table_column_wise`` and ``grid``; as many as there are
    processes, or nodes for ``grid``, where not set."""

    def check(self, key: str) -> None:
        """Check ranges; ``key`` is this section's key as typed."""
        share = self.cache_load_factor
        sound = share is None or 0 < share <= 1
        require(sound, f"{key}.cache_load_factor", "in (0, 1]", share)
        read = self.storage in (None, Storage.fused_uvm_caching)
        wanted = "unset but for storage=fused_uvm_caching"
        require(read or share is None, f"{key}.cache_load_factor", wanted, share)
        shards = self.num_column_shards
        sound = shards is None or shards >= 1
        require(sound, f"{key}.num_column_shards", ">= 1", shards)
