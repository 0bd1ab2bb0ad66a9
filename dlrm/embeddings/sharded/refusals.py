"""What a strategy cannot do exactly: refused by name before anything starts."""

from __future__ import annotations

from torchrec.modules.embedding_configs import BaseEmbeddingConfig

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.embeddings.names import table_name
from dlrm.embeddings.table_config import options_of

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

_WHOLE_ROW = "takes all columns of a row, which lie on different processes"
_REFUSED: dict[tuple[str, Strategy], tuple[str, str]] = {
    **{
        (f"optimizer.name={name.value}", Strategy.column_wise): (
            f"{name.value} {_WHOLE_ROW}",
            "use sgd, adagrad or adam, or table_wise, row_wise or data_parallel",
        )
        for name in sorted(_NEEDS_WHOLE_ROWS, key=lambda name: name.value)
    },
    ("max_norm", Strategy.column_wise): (
        f"a row's norm {_WHOLE_ROW}",
        "use table_wise, row_wise or data_parallel",
    ),
    ("embedding_dim not divided by the number of processes", Strategy.column_wise): (
        "every process keeps equally many columns",
        "change the width, or use table_wise, row_wise or data_parallel",
    ),
    **{
        ("gradient of per_sample_weights", strategy): (
            "weights travel to the table's process without their gradient's way back",
            "detach the weights, or use data_parallel",
        )
        for strategy in (Strategy.table_wise, Strategy.row_wise, Strategy.column_wise)
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
    config: BaseEmbeddingConfig,
    strategy: Strategy,
    *,
    optimizer: SparseOptimizer,
    world_size: int,
) -> None:
    """Check that a table can lie on ``world_size`` processes as ``strategy`` says.

    Args:
        config: The whole table's.
        strategy: How it is to lie.
        optimizer: Of tables without their own.
        world_size: The number of processes.

    Raises:
        ConfigError: One of the table's options does not go with the strategy.
    """
    table = table_name(config.name)
    for option, value in _options_in_use(config, optimizer, world_size).items():
        why = refusal(option, strategy)
        if why is not None:
            raise ConfigError(f"Table '{table}' with {value}: {why}")


def _options_in_use(
    config: BaseEmbeddingConfig, optimizer: SparseOptimizer, world_size: int
) -> dict[str, str]:
    """Return the options of a table that some strategy may refuse, and their values."""
    options, used = options_of(config), {}
    own = options.optimizer.resolved(optimizer)
    if not options.frozen:
        used[f"optimizer.name={own.name.value}"] = f"optimizer {own.name.value}"
    if options.max_norm is not None:
        used["max_norm"] = f"max_norm={options.max_norm}"
    width = config.embedding_dim
    if width % world_size:
        given = f"embedding_dim={width} on {world_size} processes"
        used["embedding_dim not divided by the number of processes"] = given
    return used
