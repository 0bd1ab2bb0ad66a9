"""The part of a report on slices: where the model is bad, and every slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dlrm.evaluation.cold_start_section import cold_start_sections
from dlrm.evaluation.page import Block, Folded, Note, Section
from dlrm.evaluation.slice_columns import WEAK, WORST, dimension_fields, table_of

_WORST_CAPTION = (
    "The worst slices: where clicks, or the log loss, are furthest from what the "
    "model's own probabilities promise. p is corrected for all looks."
)
_WEAK_CAPTION = (
    "Ranked worse than all other rows. A slice of rows that are alike is harder to "
    "rank, whoever does it."
)


def slice_sections(slices: Mapping[str, Any] | None) -> Iterator[Section]:
    """Yield the sections of slices and of new ids.

    ``slices`` is the content of slices.json, if any.
    """
    if slices is None:
        return
    if slices["dimensions"]:
        yield Section("slices", "Slices", list(_blocks(slices)))
    yield from cold_start_sections(slices)


def _blocks(slices: Mapping[str, Any]) -> Iterator[Block]:
    yield Note(_verdict(slices))
    if slices["worst"]:
        yield table_of("worst-slices", _WORST_CAPTION, WORST, slices["worst"])
    if slices["weak_ranking"]:
        weak = slices["weak_ranking"]
        yield table_of("weak-slices", _WEAK_CAPTION, WEAK, weak)
    for number, dimension in enumerate(slices["dimensions"]):
        key, found = str(dimension["key"]), dimension["slices"]
        caption = f"Every slice by {key}; together they are all rows."
        table = table_of(f"slices-{number}", caption, dimension_fields(key), found)
        yield Folded(f"All slices by {key} ({len(found):,})", (table,))
    units = "groups" if slices["errors"] == "groups" else "rows"
    yield Note(
        f"Intervals are of 95 %, {units} taken as independent, each slice for itself. "
        f"A slice with fewer than {slices['min_clicks']:,} expected clicks, or other "
        f"rows, is not tested."
    )
    for entry in slices.get("skipped", ()):
        yield Note(f"Not sliced by {entry['key']}: {entry['reason']}.")


def _verdict(slices: Mapping[str, Any]) -> str:
    bad = [entry for entry in slices["worst"] if entry["significant"]]
    tests = f"{slices['num_tests']:,} tests"
    chance = f"{slices['level']:.0%} chance of any false alarm at all"
    if not bad:
        return (
            f"No slice breaks the model's promises by more than chance explains: "
            f"{tests}, corrected for their number, {chance}."
        )
    first = bad[0]
    many = f"{len(bad)} findings are" if len(bad) > 1 else "1 finding is"
    return (
        f"{many} more than chance explains ({tests}, corrected for their number, "
        f"{chance}). The worst is {first['dimension']} = {first['slice']}: "
        f"{first['sentence'].rstrip('.')}."
    )
