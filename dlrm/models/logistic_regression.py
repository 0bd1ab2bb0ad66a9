"""Logistic regression on ids and numbers.

The model of McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches",
section 3; any optimizer of the house trains it, FTRL-Proximal is not among them.

Shape suffix: B = batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.model import ModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.models.inputs import LinearTerms


@dataclass(kw_only=True, slots=True)
class LogisticRegressionConfig(ModelConfig):
    """What every model has; ``embedding_dim`` is not used, a weight is one number."""


@register_model("logistic_regression", LogisticRegressionConfig)
class LogisticRegression(nn.Module):
    """A bias, a weight a dense column and a weight a sparse id."""

    def __init__(self, config: LogisticRegressionConfig, schema: FeatureSchema) -> None:
        super().__init__()
        _check_options(schema)
        self.linear = LinearTerms(schema)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits [B, 1]."""
        return self.linear(batch)


def _check_options(schema: FeatureSchema) -> None:
    """Refuse options of the vectors that this model does not have."""
    for table in schema.tables:
        options = schema.options(table)
        asked = {
            "max_norm": options.max_norm,
            "pretrained.path": options.pretrained.path,
        }
        for key, value in asked.items():
            if value is not None:
                raise ConfigError(
                    f"tables.{table}.{key} must not be set for "
                    f"model=logistic_regression, which has one weight an id and no "
                    f"vectors, but it is {value}. Leave it out, or choose another "
                    f"model."
                )
