"""What every model of two towers has: which features describe what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean
from dlrm.config.model import ModelConfig

_SIDES = ("query_features", "document_features")


@dataclass(kw_only=True, slots=True)
class TowersConfig(ModelConfig):
    """Models with such a config serve the task ``retrieval``, and it alone.

    They return [B, 2, D]: of each row the vector of its query and that of its document,
    whose dot product is the score.
    """

    query_features: list[str] = field(default_factory=list)
    """Features, sparse or dense, that describe who asks."""
    document_features: list[str] = field(default_factory=list)
    """Features that describe what is found. A document is what they hold; results call
    it by the first of them."""

    def check_features(self, known: Iterable[str]) -> None:
        """Refuse towers that do not share out the features of the data.

        Raises:
            ConfigError: A feature is in no tower or twice, a name is none of a feature,
                or a tower has none.
        """
        features = list(known)
        for side in _SIDES:
            _check_names(side, getattr(self, side), features)
        chosen = self.query_features + self.document_features
        for name in features:
            if chosen.count(name) > 1:
                raise ConfigError(
                    f"Every feature must be named once, but '{name}' is named "
                    f"{chosen.count(name)} times in model.query_features and "
                    f"model.document_features. Leave it where it belongs. Two features "
                    f"may read one column and one table."
                )
            if name not in chosen:
                raise ConfigError(
                    f"Every feature must be in model.query_features or "
                    f"model.document_features, but '{name}' is in neither. Add it to "
                    f"one, or take it out of the data (~data.sparse_features.{name} or "
                    f"~data.dense_features.{name})."
                )


def _check_names(side: str, names: list[str], features: list[str]) -> None:
    if not names:
        raise ConfigError(
            f"model.{side} must name features of the data, but it is empty. Type, for "
            f"example, 'model.{side}=[{features[0]}]'. The data has: "
            f"{', '.join(features)}."
        )
    for name in names:
        if name not in features:
            raise ConfigError(
                f"model.{side} must name features of the data, but '{name}' is none."
                f"{did_you_mean(name, features)} It has: {', '.join(features)}."
            )
