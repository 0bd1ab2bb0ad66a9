"""Whatever is typed, and whatever stands in the files, a command ends with 0 or 2."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlrm.data.storage.dataset import Dataset
from tests.fuzz.calling import ends_well
from tests.fuzz.engine import read_corpus
from tests.fuzz.mutation import TOKENS, mutate
from tests.fuzz.script import NUM_OPTIONS
from tests.fuzz.targets import TARGETS
from tests.runs import CLICKS, ClicksRun

COMMANDS = (
    "init",
    "prepare",
    "train",
    "predict",
    "evaluate",
    "compare",
    "embeddings",
    "explain",
    "calibrate",
    "nonsense",
)
KEYS = (
    "input", "output", "run", "baseline", "candidate", "label", "table", "near", "top",
    "data.source", "data.label", "data.bad_rows", "data.sparse_features", "model.typo",
    "data.dense_features.x.clip_min", "trainer.seed", "trainer.global_batch_size",
    "trainer.num_epochs", "checkpoint", "split", "name", "separator", "encoding",
    "quoting", "overwrite", "+a.b", "~model", "--code", "-m", "--", "", "=", ".",
)  # fmt: skip
VALUES = (
    "", "nan", "inf", "-1", "0", "1e400", "9" * 40, "true", "None", "null", "[", "]",
    "{", "{a: {b: c}}", "[1,2", "a,b", "'", '"', "\\", "${oc.env:HOME}", "${x}", "%s",
    "../../..", "/", "/dev/null", "~", "*", "?", "**", "a" * 3_000, "\x1b[31m",
    "\udcff", "é", "\u2028", "s3://b/k", "file:///etc", ";", "error", "skip", "comma",
    "utf-16", "utf-7", "idna", "punycode", "undefined", "no/such/path.csv", "label",
    "__class__", "in.csv", "y",
)  # fmt: skip
ARGUMENT = (
    st.sampled_from(("input=in.csv", "label=y", "in.csv", "overwrite=true"))
    | st.sampled_from(KEYS)
    | st.sampled_from(VALUES)
    | st.builds("{}={}".format, st.sampled_from(KEYS), st.sampled_from(VALUES))
    | st.text(alphabet=st.characters(exclude_characters="\0"), max_size=12)
)
# Commands that would start to work for minutes are given a source that is not there.
STOPPED = ("data=criteo_kaggle", "data.source=no/such/folder")
FEW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(st.sampled_from(COMMANDS), st.lists(ARGUMENT, max_size=4))
def test_any_command_line_ends_with_0_or_2(
    workdir: Path, command: str, arguments: list[str]
):
    _type(command, arguments)


@pytest.mark.slow
@settings(FEW, max_examples=1_500)
@given(st.sampled_from(COMMANDS), st.lists(ARGUMENT, max_size=4))
def test_many_command_lines_end_with_0_or_2(
    workdir: Path, command: str, arguments: list[str]
):
    _type(command, arguments)


def _type(command: str, arguments: list[str]) -> None:
    Path("in.csv").write_text("y,s,n\n" + "0,a,1.5\n1,b,2\n0,a,\n" * 8)
    kept = [text for text in arguments if not text.startswith("data=")]
    stop = STOPPED if command in ("prepare", "train") else ()
    ends_well(command, *stop, *kept)


@FEW
@given(st.lists(st.text(max_size=20), max_size=2))
def test_a_command_name_may_be_anything(workdir: Path, argv: list[str]):
    if not argv or argv[0] not in ("doctor", "bench", "plan", "train", "prepare"):
        ends_well(*argv)


def hostile_tables(number: int) -> list[bytes]:
    """Return tables: kept inputs of the readers, and edits of data/clicks.csv."""
    rng = random.Random(number)
    rows = CLICKS.read_bytes().splitlines(keepends=True)
    small = b"".join(rows[:60])
    pool = [small, *(seed[NUM_OPTIONS:] for seed in TARGETS["profiling"].seeds)]
    kept = [data[NUM_OPTIONS:] for data in read_corpus("profiling")]
    fresh = [mutate(rng, rng.choice(pool), pool, TOKENS) for _ in range(number)]
    return [*kept[:number], *fresh]


@pytest.mark.parametrize("number", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_hostile_tables_are_looked_at_and_prepared_or_refused(
    workdir: Path, number: int
):
    for data in hostile_tables(number):
        shutil.rmtree(workdir / "conf", ignore_errors=True)
        shutil.rmtree(workdir / "prepared", ignore_errors=True)
        (workdir / "t.csv").write_bytes(data)
        label = "clicked" if b"clicked" in data else "y"
        if ends_well("init", "t.csv", f"label={label}", "name=t").code == 0:
            ended = ends_well("prepare", "data=t")
            if ended.code == 0:
                _check_finite(workdir / "prepared")


def _check_finite(prepared: Path) -> None:
    (folder,) = (p for p in prepared.iterdir() if (p / "schema.json").exists())
    dataset = Dataset.open(folder)
    for name, count in dataset.schema.splits.items():
        rows = dataset.split(name).gather(np.arange(count.num_rows))
        assert np.isfinite(rows.dense).all(), "a number that is none went through"


ODD_TABLES = {
    "one value of a vocabulary": "y,s\n" + "0,a\n1,a\n" * 20,
    "huge numbers": "y,d,s\n" + "0,1e300,a\n1,-1e308,b\n" * 20,
    "tiny numbers": "y,d,s\n" + "0,1e-300,a\n1,-5e-324,b\n" * 20,
    "ids beyond 64 bits": "y,id\n" + f"0,{2**63}\n1,{2**64 + 1}\n0,-5\n" * 20,
    "labels of text": "y,s\nyes,a\nno,b\n",
    "labels of one kind": "y,s\n" + "1,a\n1,b\n" * 9,
    "a name twice": "y,s,s\n0,a,b\n",
    "no rows": "y,s\n",
    "nothing": "",
    "white space": " \n\t\n",
    "all missing": "y,d,s\n" + ",,\n" * 5,
}


@pytest.mark.parametrize("name", ODD_TABLES)
def test_odd_tables_are_prepared_with_finite_numbers_or_refused(
    workdir: Path, name: str
):
    (workdir / "t.csv").write_text(ODD_TABLES[name])
    seen = ends_well("init", "t.csv", "label=y", "name=t")
    if seen.code == 0 and ends_well("prepare", "data=t").code == 0:
        _check_finite(workdir / "prepared")


def test_empty_folders_and_folders_of_folders_are_refused(workdir: Path):
    (workdir / "empty").mkdir()
    (workdir / "deep" / "er").mkdir(parents=True)
    for place in ("empty", "deep", "deep/er/*", "."):
        assert ends_well("init", place, "label=y").code == 2
        source = ("data=criteo_kaggle", f"data.source={place}")
        assert ends_well("prepare", *source).code == 2
        assert ends_well("train", *source).code == 2


def test_folders_that_are_no_runs_are_refused(workdir: Path):
    (workdir / "empty").mkdir()
    (workdir / "file").write_text("x")
    (workdir / "in.csv").write_text("a\n1\n")
    for run in ("empty", "file", "missing", "/dev/null", "."):
        at = (f"run={run}", "input=in.csv", "output=out.csv")
        assert ends_well("predict", *at).code == 2
        assert ends_well("evaluate", f"run={run}").code == 2
        assert ends_well("embeddings", f"run={run}", "table=shop").code == 2
        assert ends_well("compare", f"baseline={run}", f"candidate={run}").code == 2


@pytest.mark.parametrize("number", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_predictions_of_hostile_rows_are_row_for_row_or_refused(
    clicks: ClicksRun, workdir: Path, number: int
):
    for place, data in enumerate(hostile_tables(number)):
        (workdir / "in.csv").write_bytes(data)
        at = (f"run={clicks.run.folder}", "input=in.csv")
        ended = ends_well("predict", *at, f"output=out{place}.csv")
        if ended.code == 0:
            scores = pd.read_csv(workdir / f"out{place}.csv")
            assert np.isfinite(scores["probability"]).all()
            assert scores["probability"].between(0, 1).all()
        ends_well("evaluate", *at, f"name=e{place}")


@pytest.mark.parametrize("number", [4, pytest.param(80, marks=pytest.mark.slow)])
def test_a_damaged_run_is_refused_or_does_not_matter(
    clicks: ClicksRun, workdir: Path, number: int
):
    rng = random.Random(number)
    whole = clicks.run.folder
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    (workdir / "in.csv").write_bytes(b"".join(CLICKS.read_bytes().splitlines(True)[:9]))
    for _ in range(number):
        run = workdir / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        _damage(run / rng.choice(files), rng)
        at = "run=run"
        ends_well("predict", at, "input=in.csv", "output=out.csv")
        ends_well("embeddings", at, "table=shop", "near=shop_3")
        ends_well("compare", f"baseline={whole}", "candidate=run", "split=test")
        ends_well("evaluate", at, "input=in.csv", "name=again")


def _damage(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    ways = [b"", b"\0" * 64, b"{}", b"[]", b"null", data[: len(data) // 2], b"\xff\xfe"]
    at = rng.randrange(max(1, len(data)))
    ways += [data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]] * 4
    if path.suffix == ".json":
        ways += [_with_odd_value(data, rng)] * 6
    path.write_bytes(rng.choice(ways))


def _with_odd_value(data: bytes, rng: random.Random) -> bytes:
    """Put something of another type in place of one value of a JSON document."""
    document = json.loads(data)
    place = document
    while isinstance(place, (dict, list)) and place:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], (dict, list)) or rng.random() < 0.3:
            place[key] = rng.choice(
                [None, -1, 2**70, "x", [], {}, True, 0.5, float("nan")]
            )
            break
        place = place[key]
    return json.dumps(document).encode()
