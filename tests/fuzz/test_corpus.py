"""The kept inputs are still read as the judges say, and the fuzzer can find a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlrm.config.errors import DataError
from dlrm.data.sources import blocks, exact
from tests.fuzz.engine import CORPUS, Target, fuzz, read_corpus, try_input
from tests.fuzz.script import seed_input
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_and_kept_input_is_read_as_the_judge_says(name: str, tmp_path: Path):
    target = TARGETS[name]
    for data in [*target.seeds, *read_corpus(name)]:
        finding = try_input(target, data, tmp_path)
        assert finding is None, f"{data!r}\n{finding.text}"


def test_the_corpus_is_small_and_belongs_to_readers():
    files = list(CORPUS.rglob("*.bin"))
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < 500_000


def test_a_fault_planted_in_a_reader_is_found(monkeypatch: pytest.MonkeyPatch):
    def careless(data: bytes, start: int) -> int:
        return data.find(b'"', start)

    monkeypatch.setattr(exact, "_closing_quote", careless)
    report = fuzz(TARGETS["exact"], inputs=300)
    assert report.findings
    assert b'""' in report.findings[0].data


def test_a_row_that_goes_missing_is_found(monkeypatch: pytest.MonkeyPatch):
    whole = blocks._before_blank_lines
    monkeypatch.setattr(
        blocks, "_before_blank_lines", lambda data, cut, keep: whole(data, cut, False)
    )
    report = fuzz(TARGETS["delimited"], inputs=300)
    assert any("rows differ" in finding.signature for finding in report.findings)


def test_a_crash_is_found_and_made_small():
    def check(data: bytes, _folder: Path) -> None:
        if b"\x00" in data:
            raise KeyError("nul")

    target = Target(
        name="crash", seeds=(seed_input(b"some long text" * 9),), check=check
    )
    report = fuzz(target, inputs=200, guided=False)
    assert [finding.data for finding in report.findings] == [b"\x00"]


def test_a_refusal_that_users_see_is_no_finding(tmp_path: Path):
    from tests.fuzz.findings import Refused, answer

    def refuse() -> None:
        raise DataError("a.csv, line 3: no number")

    assert answer(refuse) == Refused("a.csv, line 3: no number")


def test_the_same_seed_gives_the_same_inputs():
    seen: list[list[bytes]] = [[], []]
    for found in seen:
        target = Target(
            name="same", seeds=(b"abc",), check=lambda data, _, f=found: f.append(data)
        )
        fuzz(target, inputs=50, seed=3)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 40


def test_inputs_that_reach_new_code_breed_the_next_ones():
    from dlrm.data.columns.whole_numbers import _whole_number
    from dlrm.data.columns.words import cut_words  # noqa: F401 - any watched module

    deep: list[int] = []

    def check(data: bytes, _folder: Path) -> None:
        deep.append(_whole_number(data.decode("latin-1")))

    target = Target(name="deep", seeds=(b"x",), check=check, tokens=(b"7",))
    report = fuzz(target, inputs=400)
    assert len(report.kept) > 1
    assert max(deep) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_thousand_fuzzed_inputs_are_read_as_the_judge_says(name: str):
    report = fuzz(TARGETS[name], inputs=1_000, seed=1, corpus=read_corpus(name))
    assert report.num_inputs == 1_000
    assert not report.findings, report.findings[0].text
