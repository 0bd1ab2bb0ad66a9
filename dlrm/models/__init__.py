"""Models by name. A built-in model is the file of its name in this folder."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Any

from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.model import ModelConfig, RegisteredModel, registered_models
from dlrm.config.schema import FeatureSchema
from dlrm.config.sections import check_section
from dlrm.config.task import TaskName
from dlrm.config.towers import TowersConfig

_NOT_MODELS = {"branches", "inputs", "task"}


def model_config(section: dict[str, Any]) -> ModelConfig:
    """Check the ``model`` section against the config class of the model it names.

    Raises:
        ConfigError: No model has this name, or a setting does not fit its class.
    """
    registered = _find_model(str(section.get("name")))
    return check_section(registered.config_class, section, key="model")


def build_model(config: ModelConfig, schema: FeatureSchema) -> nn.Module:
    """Build the model: a module from a ``Batch`` to logits [B, num_outputs].

    One of two towers gives vectors [B, 2, D]; see ``TowersConfig``.

    Its embedding tables stand on the meta device until a backend is swapped in.

    Raises:
        ConfigError: The config does not fit the schema.
    """
    if schema.num_outputs > 1:
        _check_outputs(config)
    return _find_model(config.name).build(config, schema)


def check_task(config: ModelConfig, task: TaskName) -> None:
    """Refuse a model that is not for the run's task.

    Raises:
        ConfigError: Two towers are to tell clicks, or one logit is to find documents or
            to tell several classes.
    """
    if task in (TaskName.multiclass, TaskName.multilabel):
        _check_outputs(config)
    finds = isinstance(config, TowersConfig)
    if finds and task is not TaskName.retrieval:
        raise ConfigError(
            f"task.name must be retrieval for model={config.name}, which finds "
            f"documents, but it is {task.value}. Set task.name=retrieval, on rows with "
            f"clicks."
        )
    if not finds and task is TaskName.retrieval:
        able = [
            name
            for name, known in all_models().items()
            if issubclass(known.config_class, TowersConfig)
        ]
        raise ConfigError(
            f"model.name must be a model of two towers, {', '.join(able)}, for "
            f"task.name=retrieval, but {config.name} has no vectors to compare. Set "
            f"model=two_tower, or another task."
        )


def _check_outputs(config: ModelConfig) -> None:
    if _find_model(config.name).multiple_outputs:
        return
    able = [name for name, known in all_models().items() if known.multiple_outputs]
    raise ConfigError(
        f"model.name must be a model with a logit a class, {', '.join(able)}, where "
        f"data.label_kind says that labels are classes, but {config.name} has one "
        f"logit, for clicks."
    )


def built_in_models() -> set[str]:
    """Return the names of the models that come with the package."""
    return {module.name for module in pkgutil.iter_modules(__path__)} - _NOT_MODELS


def all_models() -> dict[str, RegisteredModel]:
    """Return all models by name; the built-in ones are imported."""
    for name in sorted(built_in_models()):
        importlib.import_module(f"{__name__}.{name}")
    return registered_models()


def _find_model(name: str) -> RegisteredModel:
    built_in = built_in_models()
    if name in built_in:
        importlib.import_module(f"{__name__}.{name}")
    found = registered_models().get(name)
    if found is None:
        names = sorted(built_in | set(registered_models()))
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"model.name must be one of {', '.join(names)}, but it is '{name}'.{hint} "
            f"A model of your own is loaded with --code FILE."
        )
    return found
