"""Bad input, found on the process it came to, before it is sent to others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchrec.modules.embedding_configs import BaseEmbeddingConfig
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Strategy
from dlrm.embeddings.id_check import find_bad_id
from dlrm.embeddings.sharded.refusals import refusal


def check_input(
    features: KeyedJaggedTensor,
    configs: Sequence[BaseEmbeddingConfig],
    strategies: Sequence[Strategy],
) -> None:
    """Refuse what torchrec's exchange of ids would bend in silence.

    An id out of range would be looked up as row 0 of some part of its table.

    Args:
        features: Bags of one collection.
        configs: Its tables.
        strategies: How they lie on the processes.

    Raises:
        DataError: An id is out of its table's range.
        ConfigError: The ids' weights want a gradient.
    """
    if _has_bad_id(features, configs):
        error = find_bad_id(features, list(configs))
        assert error is not None
        raise error
    weights = features.weights_or_none()
    if torch.is_grad_enabled() and weights is not None and weights.requires_grad:
        for strategy in strategies:
            why = refusal("gradient of per_sample_weights", strategy)
            if why is not None:
                raise ConfigError(why)


def _has_bad_id(
    features: KeyedJaggedTensor, configs: Sequence[BaseEmbeddingConfig]
) -> bool:
    ids = features.values()
    if ids.numel() == 0:
        return False
    rows_of = {name: c.num_embeddings for c in configs for name in c.feature_names}
    names: list[str] = features.keys()
    for name, part in zip(
        names, torch.split(ids, features.length_per_key()), strict=True
    ):
        # A feature of none of these tables is some other collection's.
        if name not in rows_of or part.numel() == 0:
            continue
        lowest, highest = torch.aminmax(part)
        if int(lowest) < 0 or int(highest) >= rows_of[name]:
            return True
    return False
