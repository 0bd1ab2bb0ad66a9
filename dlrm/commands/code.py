"""A user's own Python files, named by ``--code``: models that register themselves."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from dlrm.config.errors import ConfigError, UserError


def import_code(files: Iterable[Path]) -> None:
    """Import each file, so that what it registers is known.

    Raises:
        ConfigError: A file cannot be imported. The message names its line.
    """
    for file in files:
        _import_file(file)


def _import_file(file: Path) -> None:
    name = f"dlrm_code_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--code must name a Python file (.py), but it names {file}.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses resolve their field types through the module's entry here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"--code {file} must be importable, but it raises "
            f"{type(error).__name__}: {error}{_line(error, file)}. Mend the file."
        ) from error


def _line(error: Exception, file: Path) -> str:
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == file.name]
    return f" (line {lines[-1]})" if lines else ""


def check_code(run: Path, *, given: bool) -> None:
    """Refuse to open a run of a user's own model without ``--code``; run nothing.

    Raises:
        ConfigError: The run was trained with ``--code``, and none was given.
    """
    copies = sorted((run / "code").glob("*.py"))
    if copies and not given:
        options = " ".join(f"--code {shlex.quote(str(path))}" for path in copies)
        raise ConfigError(
            f"The run {run} uses code of its own, which is not run unasked. "
            f"Look at it, then add: {options}"
        )
