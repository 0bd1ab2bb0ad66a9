"""The ``model`` section's base, and the register of models.

A model's own config class stands in the model's own file, which imports torch; so the
section stays a plain dict until that file is imported, and is checked against the class
then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dlrm.config.checks import check_rate, check_widths, require
from dlrm.config.embedding_init import EmbeddingInit
from dlrm.config.errors import ConfigError
from dlrm.config.table_options import TableDtype


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """What every model's section has."""

    name: str
    embedding_dim: int = 16
    """Width of every table that sets none of its own."""
    embedding_init: EmbeddingInit = field(default_factory=EmbeddingInit)
    embedding_dtype: TableDtype = TableDtype.float32
    """Type of every table that sets none of its own."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        require(
            self.embedding_dim >= 1, "model.embedding_dim", ">= 1", self.embedding_dim
        )
        self.embedding_init.check("model.embedding_init")


@dataclass(kw_only=True, slots=True)
class DeepModelConfig(ModelConfig):
    """What every model with a multi-layer perceptron before its logit has."""

    top_mlp: list[int] = field(default_factory=lambda: [128, 64])
    """Hidden widths; a last layer of 1, the logit, follows."""
    embedding_dropout: float = 0.0
    """On the pooled vectors."""
    dropout: float = 0.0
    """After each hidden layer of the top MLP."""
    batch_norm: bool = False
    """In each hidden layer of the top MLP, before ReLU."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        ModelConfig.__post_init__(self)
        check_widths("model.top_mlp", self.top_mlp)
        check_rate("model.embedding_dropout", self.embedding_dropout)
        check_rate("model.dropout", self.dropout)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model's name, its config class and the function that builds it."""

    name: str
    config_class: type[ModelConfig]
    build: Callable[..., Any]
    multiple_outputs: bool = False
    """Whether the logits are [B, num_outputs of the schema], not [B, 1] alone."""


_MODELS: dict[str, RegisteredModel] = {}


def register_model(
    name: str, config_class: type[ModelConfig], *, multiple_outputs: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a model, called as ``build(config, schema)``, under ``model.name``.

    With ``multiple_outputs`` it gives a logit a class where labels are classes, and is
    refused such labels without.

    Raises:
        ConfigError: Another model has this name.
    """

    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        other = _MODELS.get(name)
        if other is not None and other.build.__module__ != build.__module__:
            raise ConfigError(
                f"Model names must be unique, but '{name}' is registered by both "
                f"{other.build.__module__} and {build.__module__}. Rename one of them."
            )
        _MODELS[name] = RegisteredModel(name, config_class, build, multiple_outputs)
        return build

    return register


def registered_models() -> dict[str, RegisteredModel]:
    """Return the models registered so far, by name."""
    return dict(_MODELS)
