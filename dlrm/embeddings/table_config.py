"""torchrec's table configs with our options: what travels inside a collection."""

from __future__ import annotations

from dataclasses import dataclass, field

from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig

from dlrm.config.table_options import TableOptions


@dataclass
class BagTableConfig(EmbeddingBagConfig):
    """A table whose bags are pooled in the lookup."""

    options: TableOptions = field(default_factory=TableOptions)
    vocabulary: str = ""
    """The data's table whose values the rows stand for; the own name where empty."""


@dataclass
class RowTableConfig(EmbeddingConfig):
    """A table whose rows are looked up one by one, as max pooling needs them."""

    options: TableOptions = field(default_factory=TableOptions)
    vocabulary: str = ""
    """As in ``BagTableConfig``."""


def options_of(config: EmbeddingBagConfig | EmbeddingConfig) -> TableOptions:
    """Return a table's options; the defaults for torchrec's own configs."""
    options = getattr(config, "options", None)
    return options if isinstance(options, TableOptions) else TableOptions()
