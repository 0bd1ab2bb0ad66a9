"""A report as Markdown: the same numbers, for a ticket or a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dlrm.config.terminal_text import plain
from dlrm.evaluation.page import Block, Figures, Folded, Note, Page, Points, Table


def render_markdown(page: Page) -> str:
    """Return the page's texts and tables; of figures, what they show in words."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {_escaped(page.title)}"
    yield ""
    yield _escaped(page.lead)
    if page.headlines:
        yield ""
    for headline in page.headlines:
        interval = f", {_escaped(headline.interval)}" if headline.interval else ""
        note = f": {_escaped(headline.note)}" if headline.note else ""
        value = _escaped(headline.value)
        yield f"- **{_escaped(headline.title)} {value}**{interval}{note}"
    for section in page.sections:
        yield ""
        yield f"## {_escaped(section.title)}"
        for block in section.blocks:
            yield from _block(block)
    if page.footer:
        yield ""
        yield _escaped(page.footer)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Note():
            yield ""
            yield _escaped(block.text)
        case Points():
            yield ""
            yield f"{_escaped(block.title)}:"
            yield ""
            for item in block.items:
                yield f"- {_escaped(item)}"
        case Table():
            yield from _table(block)
        case Folded():
            for table in block.tables:
                yield from _table(table)
        case Figures():
            yield ""
            for figure in block.figures:
                yield f"- {_escaped(figure.title)}: {_escaped(figure.summary)}"


def _table(table: Table) -> Iterator[str]:
    yield ""
    yield _escaped(table.caption)
    yield ""
    yield _row([column.title for column in table.columns])
    yield _row(["---:" if column.number else "---" for column in table.columns], "")
    for cells in table.rows:
        yield _row([cell.text for cell in cells])


def _row(texts: Sequence[str], escape: str = "yes") -> str:
    return "| " + " | ".join(_escaped(t) if escape else t for t in texts) + " |"


def _escaped(text: str) -> str:
    """Return text that Markdown, and HTML within it, shows as it is, on one line."""
    text = plain(" ".join(text.split()))
    text = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
