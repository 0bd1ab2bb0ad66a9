"""Environment variables are read in one place, typed."""

import ast
from pathlib import Path

import pytest

import dlrm
from dlrm.config.environment import Environment, read_environment

PACKAGE = Path(dlrm.__file__).parent
READERS = {
    PACKAGE / "config" / "environment.py",
    PACKAGE / "distributed" / "context.py",
}
VARIABLES = (
    "DLRM_FULL_ERROR",
    "DLRM_REAL_DATA",
    "NO_COLOR",
    "DLRM_LAUNCHED",
    "TORCHELASTIC_ERROR_FILE",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE",
    "DLRM_NATIVE",
)


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_set_by_default():
    assert read_environment() == Environment()


def test_variables_are_typed(monkeypatch: pytest.MonkeyPatch):
    values = ("1", "/data", "1", "1", "/tmp/error.json", "2", "job", "True", "0")
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    assert read_environment() == Environment(
        True,
        Path("/data"),
        True,
        True,
        Path("/tmp/error.json"),
        "2",
        "job",
        True,
        False,
    )


@pytest.mark.parametrize("value", ["0", "false", "No", ""])
def test_full_error_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("DLRM_FULL_ERROR", value)
    assert not read_environment().full_error


def test_no_other_file_reads_the_environment():
    guilty = [
        str(file)
        for file in sorted(PACKAGE.rglob("*.py"))
        if file not in READERS and _reads_environment(ast.parse(file.read_text()))
    ]
    assert guilty == []


def _reads_environment(tree: ast.AST) -> bool:
    attributes = [
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    ]
    return bool({"environ", "getenv", "environb"} & set(attributes))
