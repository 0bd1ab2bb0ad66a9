"""The ``model`` section's base, and the register of models.

A model's own config class stands in the model's own file, which imports torch; so the
section stays a plain dict until that file is imported, and is checked against the class
then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dlrm.config.checks import require
from dlrm.config.errors import ConfigError


class InitName(Enum):
    """The distribution of initial embedding values."""

    uniform = "uniform"
    """Uniform in [-scale, scale)."""
    normal = "normal"
    """Normal with mean 0 and standard deviation ``scale``."""


@dataclass(kw_only=True, slots=True)
class EmbeddingInit:
    """Initial embedding values: a function of (seed, table, row key, column)."""

    name: InitName = InitName.uniform
    scale: float | None = None
    """For ``uniform``, 1 / sqrt(rows of the table) where not set (Naumov et al. 2019's
    code); required for ``normal``."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """What every model's section has."""

    name: str
    embedding_dim: int = 16
    """Width of every table that sets none of its own."""
    embedding_init: EmbeddingInit = field(default_factory=EmbeddingInit)

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        require(
            self.embedding_dim >= 1, "model.embedding_dim", ">= 1", self.embedding_dim
        )
        init = self.embedding_init
        known = init.scale is not None or init.name is InitName.uniform
        require(known, "model.embedding_init.scale", "set for normal", init.scale)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model's name, its config class and the function that builds it."""

    name: str
    config_class: type[ModelConfig]
    build: Callable[..., Any]


_MODELS: dict[str, RegisteredModel] = {}


def register_model(
    name: str, config_class: type[ModelConfig]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a model, called as ``build(config, schema)``, under ``model.name``.

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
        _MODELS[name] = RegisteredModel(name, config_class, build)
        return build

    return register


def registered_models() -> dict[str, RegisteredModel]:
    """Return the models registered so far, by name."""
    return dict(_MODELS)
