"""The ``workload`` section: made-up rows of a stated shape, to measure speed with."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.checks import require


@dataclass(kw_only=True, slots=True)
class WorkloadConfig:
    """Sizes of tables and bags; ids follow Zipf's law, labels are coin flips."""

    name: str
    table_rows: list[int]
    """Rows of each table; one sparse feature a table."""
    bag_lengths: list[int]
    """Ids of each feature in every row; 1 is one-hot."""
    num_dense: int = 13
    zipf_exponent: float = 1.05
    """Id k, counted from 1, has probability proportional to k ** -exponent."""
    num_rows: int = 500_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that the two lists fit each other.

        Raises:
            ConfigError: They do not.
        """
        require(
            len(self.bag_lengths) == len(self.table_rows) > 0,
            "workload.bag_lengths",
            f"one length a table ({len(self.table_rows)})",
            f"{len(self.bag_lengths)} lengths",
        )
        require(self.num_rows >= 1, "workload.num_rows", ">= 1", self.num_rows)
