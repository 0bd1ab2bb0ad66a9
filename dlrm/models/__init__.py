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

_NOT_MODELS = {"task"}


def model_config(section: dict[str, Any]) -> ModelConfig:
    """Check the ``model`` section against the config class of the model it names.

    Raises:
        ConfigError: No model has this name, or a setting does not fit its class.
    """
    registered = _find_model(str(section.get("name")))
    return check_section(registered.config_class, section, key="model")


def build_model(config: ModelConfig, schema: FeatureSchema) -> nn.Module:
    """Build the model: a module from a ``Batch`` to logits [B, 1].

    Its embedding tables stand on the meta device until a backend is swapped in.

    Raises:
        ConfigError: The config does not fit the schema.
    """
    return _find_model(config.name).build(config, schema)


def _find_model(name: str) -> RegisteredModel:
    built_in = {module.name for module in pkgutil.iter_modules(__path__)} - _NOT_MODELS
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
