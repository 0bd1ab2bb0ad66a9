"""What a strategy cannot do exactly: refused by name before anything starts."""

from __future__ import annotations

from torchrec.modules.embedding_configs import EmbeddingBagConfig

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name
from dlrm.embeddings.table_config import options_of

_COLUMNS = (Strategy.column_wise, Strategy.table_column_wise, Strategy.grid)
_NEEDS_WHOLE_ROWS = frozenset(
    {
        SparseOptimizerName.rowwise_adagrad,
        SparseOptimizerName.partial_rowwise_adam,
        SparseOptimizerName.lamb,
        SparseOptimizerName.partial_rowwise_lamb,
        SparseOptimizerName.lars_sgd,
    }
)
"""Optimizers that keep or compute one number a row from all its columns."""

ROW_BY_ROW = "lookup of single rows"
"""What poolings that are not sums, and products of rows, want."""

_WHOLE_ROW = "takes all columns of a row, which lie on different processes"
_KEPT_WHOLE = "table_wise, row_wise, table_row_wise or data_parallel"
_INEXACT = "sharding.exact=false, which treats each range of columns as a row"
_REFUSED: dict[tuple[str, Strategy], tuple[str, str]] = {
    **{
        (f"optimizer.name={name.value}", strategy): (
            f"{name.value} {_WHOLE_ROW}",
            f"use sgd, adagrad or adam, or {_KEPT_WHOLE}, or {_INEXACT}",
        )
        for name in sorted(_NEEDS_WHOLE_ROWS, key=lambda name: name.value)
        for strategy in _COLUMNS
    },
    **{
        ("max_norm", strategy): (f"a row's norm {_WHOLE_ROW}", f"use {_KEPT_WHOLE}")
        for strategy in _COLUMNS
    },
    **{
        (ROW_BY_ROW, strategy): (
            "torchrec adds up the sums of a node's processes, and has nothing that "
            "would bring single rows back from them",
            "use sum, mean or sqrtn pooling without products of rows, or table_wise, "
            "row_wise, column_wise, table_column_wise or data_parallel",
        )
        for strategy in (Strategy.table_row_wise, Strategy.grid)
    },
    **{
        ("gradient of per_sample_weights", strategy): (
            "weights travel to the table's process without their gradient's way back",
            "detach the weights, or use data_parallel",
        )
        for strategy in Strategy
        if strategy is not Strategy.data_parallel
    },
}


def refusal(option: str, strategy: Strategy) -> str | None:
    """Return why tables under ``strategy`` cannot have ``option``; None where they can.

    Args:
        option: A key of ``tables.<table>``, with ``=`` and its value where only that
            value is meant.
        strategy: How the table lies on the processes.
    """
    found = _REFUSED.get((option, strategy))
    if found is None:
        return None
    reason, remedy = found
    return f"{option} does not go with {strategy.value}: {reason}. Instead, {remedy}."


def refuse_options(
    config: TableConfig,
    strategy: Strategy,
    *,
    optimizer: SparseOptimizer,
    exact: bool = True,
) -> None:
    """Check that a table can lie on several processes as ``strategy`` says.

    Args:
        config: The whole table's.
        strategy: How it is to lie.
        optimizer: Of tables without their own.
        exact: Whether it is to train as one process would.

    Raises:
        ConfigError: One of the table's options does not go with the strategy.
    """
    table = table_name(config.name)
    for option, value in _options_in_use(config, optimizer, exact).items():
        why = refusal(option, strategy)
        if why is not None:
            raise ConfigError(f"Table '{table}' with {value}: {why}")


def _options_in_use(
    config: TableConfig, optimizer: SparseOptimizer, exact: bool
) -> dict[str, str]:
    """Return the options of a table that some strategy may refuse, and their values."""
    options, used = options_of(config), {}
    own = options.optimizer.resolved(optimizer)
    if exact and not options.frozen:
        used[f"optimizer.name={own.name.value}"] = f"optimizer {own.name.value}"
    if options.max_norm is not None:
        used["max_norm"] = f"max_norm={options.max_norm}"
    if not isinstance(config, EmbeddingBagConfig):
        used[ROW_BY_ROW] = "rows looked up one by one"
    return used
