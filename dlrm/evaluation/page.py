"""What a report says, in whichever form it is written: HTML here, or Markdown."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import jinja2
from markupsafe import Markup

from dlrm.evaluation.charts import Chart, draw_chart

_SCRIPT = "sort.js"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    number: bool = False
    """Numbers stand at the right, and sort by their value."""
    remark: bool = False
    """Words that a narrow screen leaves out."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read, and the number it sorts by where it is a number's."""

    text: str
    sort: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose ``key`` is unique on its page; each row begins with its name."""

    kind: ClassVar[str] = "table"
    key: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    """A click on a column's title sorts by it, where scripts run."""


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list under a small heading."""

    kind: ClassVar[str] = "points"
    title: str
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its legend: (style, name) each."""

    title: str
    summary: str
    svg: Markup
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """Drawings side by side, or below each other on a narrow screen."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Folded:
    """Tables that are shown on demand, and in print."""

    kind: ClassVar[str] = "folded"
    title: str
    tables: Sequence[Table]


Block: TypeAlias = Table | Note | Points | Figures | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading; ``key`` is unique on the page."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Headline:
    """A number to read first, with its interval and one line on its meaning."""

    title: str
    value: str
    interval: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report; every text is escaped where it is written."""

    title: str
    lead: str
    """One line below the title."""
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    footer: str = ""

    @property
    def is_sortable(self) -> bool:
        """Whether any table can be sorted."""
        return any(table.sortable for table in self._tables())

    def _tables(self) -> Iterator[Table]:
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Table):
                    yield block
                elif isinstance(block, Folded):
                    yield from block.tables


def draw_figure(chart: Chart) -> Figure:
    """Draw a chart and take its legend from its lines."""
    legend = tuple((line.style, line.name) for line in chart.lines)
    return Figure(chart.title, chart.summary, draw_chart(chart), legend)


def render_html(page: Page) -> str:
    """Return the page as one file that fetches nothing.

    Its only script sorts tables; the page's own policy names it by its digest, so that
    a browser refuses any other, and every address.
    """
    script = _environment().get_template(_SCRIPT).render() if page.is_sortable else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(page=page, script=Markup(script), digest=digest)
    )


@functools.cache
def _environment() -> jinja2.Environment:
    """Return the templates of this folder; they escape every value."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("dlrm.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
