"""Reports and terminals show what a stranger wrote; they never obey it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dlrm.commands.main import main
from dlrm.config.contract import ChecksConfig
from dlrm.config.progress import report_line
from dlrm.config.terminal_text import plain
from dlrm.data.contract.findings import Finding, judge, print_warnings
from dlrm.data.contract.measuring import Measurement
from dlrm.evaluation.charts import Axis, Chart, Line
from dlrm.evaluation.click_report import click_page
from dlrm.evaluation.findings_section import findings_sections
from dlrm.evaluation.markdown import render_markdown
from dlrm.evaluation.page import (
    Cell,
    Column,
    Figures,
    Folded,
    Headline,
    Note,
    Page,
    Points,
    Section,
    Table,
    draw_figure,
    render_html,
)
from dlrm.evaluation.report import ReportContext

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "`a` | b | **c** <b>",
    "\x1b]0;title\x07\x1b[2J\x1b[31mred",
    "\u202eevil",
)


class Elements(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def everything(text: str) -> Page:
    """A page that shows one text wherever a page shows texts."""
    axis = Axis(text, 0.0, 1.0, ((0.0, text), (1.0, text)))
    line = Line(text, ((0.0, 0.0), (1.0, 1.0)), "first")
    chart = Chart(key="chart", title=text, summary=text, x=axis, y=axis, lines=(line,))
    table = Table("key", text, (Column(text), Column(text)), [(Cell(text), Cell(text))])
    blocks = (Note(text), Points(text, [text]), table, Figures([draw_figure(chart)]))
    folded = Folded(text, (Table("other", text, (Column(text),), [(Cell(text),)]),))
    return Page(
        title=text,
        lead=text,
        headlines=[Headline(text, text, text, text)],
        sections=[Section("section", text, (*blocks, folded))],
        footer=text,
    )


def evaluated(text: str) -> Page:
    finding = judged(text)
    return click_page(
        {
            "num_examples": 2,
            "num_positives": 1,
            "auc": None,
            "undefined": {"auc": text},
        },
        labels=np.array([0.0, 1.0]),
        logits=np.array([0.0, 1.0]),
        weights=np.ones(2),
        context=ReportContext(
            run=text,
            split=text,
            model=text,
            checkpoint=text,
            config={text: {text: [text]}},
            provenance={text: text},
            findings=[finding],
        ),
    )


def judged(text: str) -> dict[str, object]:
    measured = Measurement(
        kind="dense_drift", value=9.0, feature=text, rows=text, detail=text
    )
    (found,) = judge([measured], ChecksConfig())
    return {name: getattr(found, name) for name in Finding.__slots__}


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("build", [everything, evaluated])
def test_a_page_has_the_elements_of_a_harmless_one(build, text: str):
    expected, found = (Elements(render_html(build(t))) for t in ("harmless", text))
    assert found.tags == expected.tags
    names = [name for name, _ in found.attributes]
    assert names == [name for name, _ in expected.attributes]
    assert not [name for name in names if name.startswith("on")]
    links = [value for name, value in found.attributes if name in ("href", "src")]
    assert links == ["data:,"]


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("build", [everything, evaluated])
def test_markdown_holds_no_element_link_or_further_cell(build, text: str):
    expected, found = (render_markdown(build(t)) for t in ("harmless", text))
    assert not re.search(r"<\w", found)
    assert not re.search(r"(?<!\\)\](?<!\\)\(", found)
    cells = [
        [len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines()]
        for page in (expected, found)
    ]
    assert cells[1] == cells[0]
    assert "\x1b" not in found


def test_findings_are_a_table_of_texts():
    (section,) = findings_sections([judged("a")])
    assert findings_sections([]) is not None
    assert list(findings_sections([])) == []
    (table,) = section.blocks
    assert [cell.text for cell in table.rows[0][:3]] == ["dense_drift", "a", "a"]


@pytest.mark.parametrize("sign", ["\x1b", "\x07", "\x08", "\r", "\x9b", "\u202e", "\0"])
def test_a_terminal_is_shown_control_characters_and_obeys_none(sign: str, capsys):
    report_line(f"a{sign}[31mb")
    (found,) = judge(
        [Measurement(kind="dense_drift", value=9.0, feature=f"x{sign}y")],
        ChecksConfig(),
    )
    print_warnings([found])
    out, err = capsys.readouterr()
    assert sign not in out + err
    assert "\\" in out


def test_ordinary_text_is_left_alone():
    text = "naïve — 数据\tand\nlines \U0001f600"
    assert plain(text) == text


def test_an_error_message_names_a_hostile_file_harmlessly(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    name = "a\x1b[2Jb.csv"
    (workdir / name).write_text("x\n1\n")
    code = main(["init", name, "label=y\x1b]0;owned\x07"])
    assert code == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\\x1b" in err


@pytest.mark.parametrize("name", ["[/nothing]", "[bold]", ":boom:", "a\x1b[2J"])
def test_a_table_of_any_name_is_shown_by_the_plan(name: str):
    from dlrm.planning.report import KINDS, format_plan

    sizes = {part: 1.0 for parts in KINDS.values() for part in parts} | {"total": 1.0}
    step = {"total": 1.0, "ms": 1.0, "rank": 0, "examples_per_second": 1.0}
    described = {
        "ranks": [
            {
                "rank": 0,
                "device_bytes": sizes,
                "host_bytes": {"total": 0.0},
                "step_ms": step,
            }
        ],
        "tables": [
            {
                "name": name,
                "storage": "fused",
                "strategy": "table_wise",
                "num_rows": 1,
                "embedding_dim": 1,
                "bytes": 1.0,
                "parts": [],
            }
        ],
        "available_bytes": {"device": 1.0},
        "step": {**step, "largest_term": "lookup"},
        "notes": [f"note on {name}"],
    }
    text = format_plan(described, f"title of {name}")
    shown = plain(name)
    assert f"title of {shown}" in text
    assert f"note on {shown}" in text
    assert text.count(shown) == 3
