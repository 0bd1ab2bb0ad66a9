"""Names of tables as names of modules: torch keeps ``type``, ``items``, ... to itself.

A collection holds its tables in a ``torch.nn.ModuleDict``, which refuses the names of
its own attributes. Columns are called so, and their tables get an underscore more.
"""

from __future__ import annotations

from torch import nn


def module_name(table: str) -> str:
    """Return the name under which a collection can hold ``table``."""
    return f"{table}_" if _is_taken(table) else table


def table_name(module: str) -> str:
    """Return the table that ``module_name`` made this name of."""
    table = module.removesuffix("_")
    return table if table != module and _is_taken(table) else module


def _is_taken(name: str) -> bool:
    """Say whether torch keeps the name, or another table's underscore makes it so."""
    return hasattr(nn.ModuleDict(), name) or (
        name.endswith("_") and _is_taken(name.removesuffix("_"))
    )
