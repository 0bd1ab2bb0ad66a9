"""A user's own model file is imported on demand, and never from a run unasked."""

import sys
from pathlib import Path

import pytest

from dlrm.commands.code import check_code, import_code
from dlrm.config.errors import ConfigError
from dlrm.config.model import registered_models
from dlrm.config.sections import check_section

MODEL = """
from __future__ import annotations
from dataclasses import dataclass
from dlrm.config.model import ModelConfig, register_model

@dataclass(kw_only=True, slots=True)
class MineConfig(ModelConfig):
    depth: int = 2

@register_model("code_test_model", MineConfig)
class Mine:
    pass
"""


def test_a_file_registers_its_model_and_its_section_is_typed(workdir: Path):
    file = workdir / "mine.py"
    file.write_text(MODEL)
    import_code([file])
    found = registered_models()["code_test_model"]
    section = {"name": "code_test_model", "depth": 3}
    assert check_section(found.config_class, section, key="model").depth == 3
    with pytest.raises(ConfigError, match=r"model.dept is not.*model.depth"):
        check_section(found.config_class, {"name": "m", "dept": 3}, key="model")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("x = 1\nraise RuntimeError('no luck')\n", "RuntimeError: no luck (line 2)"),
        ("def f(:\n", "SyntaxError"),
        ("import nosuchmodule\n", "nosuchmodule"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(
    workdir: Path, text: str, fragment: str
):
    file = workdir / "broken.py"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        import_code([file])
    assert f"--code {file} must be importable" in str(refused.value)
    assert fragment in str(refused.value)
    assert "dlrm_code_broken" not in sys.modules


def test_a_file_that_is_no_python_is_refused(workdir: Path):
    (workdir / "model.txt").touch()
    with pytest.raises(ConfigError, match=r"must name a Python file"):
        import_code([workdir / "model.txt"])


def test_a_users_error_in_the_file_is_shown_as_it_is(workdir: Path):
    (workdir / "mine.py").write_text(
        "from dlrm.config.errors import ConfigError\nraise ConfigError('no width')\n"
    )
    with pytest.raises(ConfigError, match=r"^no width$"):
        import_code([workdir / "mine.py"])


def test_a_runs_copy_of_the_code_is_not_run_unasked(workdir: Path):
    (workdir / "code").mkdir()
    (workdir / "code" / "mine.py").write_text("raise SystemExit\n")
    with pytest.raises(ConfigError, match=r"--code .*code/mine.py"):
        check_code(workdir, given=False)
    check_code(workdir, given=True)
