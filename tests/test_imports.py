"""Imports run one way, from higher levels to lower ones; some must be torch-free."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlrm

PACKAGE = Path(dlrm.__file__).parent
ROOT = PACKAGE.parent
LEVELS = {
    "commands": 7,
    "__main__": 8,
    "bench": 6,
    "trainer": 6,
    "learner": 6,
    "averaging": 6,
    "compiling": 6,
    "diagnosis": 6,
    "early_stopping": 6,
    "interrupts": 6,
    "keeping": 6,
    "metric_log": 6,
    "pipeline": 6,
    "scoring": 6,
    "step_draws": 6,
    "explanation": 6,
    "comparison": 6,
    "evaluation": 5,
    "checkpoints": 5,
    "warm_start": 5,
    "table_vectors": 5,
    "row_names": 5,
    "neighbours": 5,
    "run": 5,
    "surroundings": 5,
    "reproduction": 6,
    "earlier_run": 5,
    "planning": 5,
    "models": 4,
    "embeddings": 3,
    "distributed": 2,
    "optim": 2,
    "data": 1,
    "layers": 1,
    "kernels": 0,
    "metrics": 0,
    "config": 0,
}
TORCH_FREE = [
    "dlrm",
    "dlrm.config.compose",
    "dlrm.config.schema",
    "dlrm.commands.main",
    "dlrm.commands.doctor",
    "dlrm.commands.prepare",
    "dlrm.commands.init",
    "dlrm.commands.compare",
    "dlrm.comparison.comparing",
    "dlrm.comparison.report",
    "dlrm.metrics",
    "dlrm.data",
    "dlrm.data.sources",
    "dlrm.data.preparation.prepare",
]


def room_of(module: str) -> str:
    """Return the part of a dotted name below ``dlrm``."""
    return [*module.split("."), ""][1]


def level_of(room: str) -> int:
    assert room in LEVELS, f"dlrm/{room} has no level: give it one here"
    return LEVELS[room]


def imports_of(file: Path) -> set[str]:
    """Return the ``dlrm`` modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found.add(node.module or "")
    return {name for name in found if name.startswith("dlrm.")}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_its_own_room_or_a_lower_level(file: Path):
    room = room_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    if room in ("", "__init__"):
        # The package's own file offers the commands' verbs, which are on top.
        return
    for module in imports_of(file):
        other = room_of(module)
        allowed = other in (room, "config") or level_of(other) < level_of(room)
        same_job = level_of(other) == level_of(room) == 6
        runs_on = level_of(other) == level_of(room) == 5
        assert allowed or same_job or runs_on, f"{file} imports {module}"


def test_config_imports_nothing_but_config():
    for file in sorted((PACKAGE / "config").glob("*.py")):
        assert {room_of(module) for module in imports_of(file)} <= {"config"}


@pytest.mark.parametrize("module", TORCH_FREE)
def test_a_module_that_must_start_fast_imports_no_torch(module: str):
    code = (
        f"import sys, {module}\n"
        "print([name for name in ('torch', 'torchrec', 'fbgemm_gpu') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_package_is_in_the_wheel():
    folders = {file.parent for file in FILES if file.name == "__init__.py"}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert {file.parent for file in FILES} == folders, "a folder lacks __init__.py"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert sorted(re.findall(r'"(.+?)"', listed[1])) == sorted(packages | {"dlrm.conf"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_stays_readable(file: Path):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
