"""A command line is taken apart: own keys, settings, --code and -m."""

from pathlib import Path

import pytest

from dlrm.commands.arguments import CommandHelp, parse, render_help, required
from dlrm.config.errors import ConfigError

KEYS = ("run", "input", "output")


def test_own_keys_are_taken_and_the_rest_are_settings():
    arguments = parse(["run=outputs/a", "trainer.seed=1", "data=mine"], KEYS)
    assert arguments.values == {"run": "outputs/a"}
    assert arguments.overrides == ["trainer.seed=1", "data=mine"]
    assert arguments.code == []
    assert not arguments.multirun


@pytest.mark.parametrize(
    "path",
    ["clicks.csv", "a,b.csv", "s3://b/k=1/p.csv", "a b.csv", "[x]{y}.csv", "'q'"],
)
def test_a_path_is_taken_literally(path: str):
    assert parse([f"input={path}"], KEYS).values["input"] == path
    assert parse([path.replace("=", "-")], KEYS, positional="input").values == {
        "input": path.replace("=", "-")
    }


def test_a_positional_path_may_hold_an_equals_sign_where_it_exists(workdir: Path):
    (workdir / "day=1").mkdir()
    (workdir / "day=1" / "clicks.csv").touch()
    arguments = parse(["day=1/clicks.csv", "label=clicked"], (), positional="input")
    assert arguments.values == {"input": "day=1/clicks.csv"}
    assert arguments.overrides == ["label=clicked"]


def test_a_positional_url_may_hold_an_equals_sign():
    arguments = parse(["s3://b/k=1/p.csv", "label=clicked"], (), positional="input")
    assert arguments.values == {"input": "s3://b/k=1/p.csv"}
    assert arguments.overrides == ["label=clicked"]


def test_a_repeatable_key_keeps_all_its_values_in_order():
    arguments = parse(["run=b", "input=x", "run=a=1"], KEYS, repeatable=("run",))
    assert arguments.repeated == {"run": ["b", "a=1"]}
    assert arguments.values == {"input": "x"}
    assert arguments.overrides == []


def test_code_is_taken_off_in_both_spellings(workdir: Path):
    for name in ("a.py", "b.py"):
        (workdir / name).touch()
    arguments = parse(["--code", "a.py", "trainer.seed=1", "--code=b.py"], KEYS)
    assert arguments.code == [Path("a.py"), Path("b.py")]
    assert arguments.overrides == ["trainer.seed=1"]


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_taken_where_the_command_sweeps(flag: str):
    assert parse([flag, "trainer.seed=1,2"], KEYS, sweeps=True).multirun
    with pytest.raises(ConfigError, match=f"{flag} makes a sweep"):
        parse([flag, "trainer.seed=1,2"], KEYS)


@pytest.mark.parametrize(
    ("argv", "fragment"),
    [
        (["--trainer.seed=1"], "Settings have no dashes: type trainer.seed=1"),
        (["--multi"], "--multi is not an option"),
        (["--coed", "x.py"], "Did you mean --code?"),
        (["--code"], "--code must name a Python file"),
        (["--code", "nosuch.py"], "'nosuch.py'"),
        (["run=a", "run=b"], "run must be given once"),
        (["inptu"], "Did you mean input?"),
        (["-m", "run=a"], "-m starts new runs"),
    ],
)
def test_what_is_neither_is_refused(argv: list[str], fragment: str):
    with pytest.raises(ConfigError) as refused:
        parse(argv, KEYS, sweeps=True)
    assert fragment in str(refused.value)


def test_a_required_key_is_asked_for_with_an_example():
    arguments = parse(["run=a"], KEYS)
    assert required(arguments, "run", "dlrm evaluate run=outputs/x") == "a"
    with pytest.raises(ConfigError, match=r"input must be set.*dlrm predict input=x"):
        required(arguments, "input", "dlrm predict input=x")


def test_help_shows_keys_settings_and_examples_within_88_columns():
    text = render_help(
        CommandHelp(
            name="judge",
            summary="Judge a run",
            usage="run=DIR",
            description="word " * 40,
            keys={"run": "the run " * 20},
            settings={"trainer.device": "cpu or cuda"},
            examples=("dlrm judge run=outputs/x",),
        )
    )
    assert text.startswith("usage: dlrm judge run=DIR\n\nJudge a run.\n")
    assert "trainer.device  cpu or cuda" in text
    assert "  dlrm judge run=outputs/x\n" in text
    assert max(map(len, text.splitlines())) <= 88
