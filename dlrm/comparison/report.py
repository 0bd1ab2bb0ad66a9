"""A comparison for a terminal, and as a page for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlrm.comparison.verdict import (
    format_difference,
    format_interval,
    is_significant,
)
from dlrm.evaluation.forest import ForestRow, forest_figure
from dlrm.evaluation.page import (
    Block,
    Cell,
    Column,
    Figure,
    Figures,
    Folded,
    Headline,
    Note,
    Page,
    Section,
    Table,
)
from dlrm.evaluation.terminal import format_value

_TITLES = {
    "auc": "AUC",
    "gauc": "Grouped AUC",
    "log_loss": "Log loss",
    "normalized_entropy": "Normalized entropy",
    "brier": "Brier score",
    "calibration": "Calibration",
    "ece_debiased": "ECE, debiased",
    "pr_auc": "PR-AUC",
    "accuracy": "Accuracy",
}
_GOALS = {
    "auc": "higher is better",
    "gauc": "higher is better",
    "log_loss": "lower is better",
    "normalized_entropy": "lower is better",
    "brier": "lower is better",
    "calibration": "1 at best",
    "ece_debiased": "0 at best; no interval of it is known to cover",
    "pr_auc": "higher is better",
    "accuracy": "higher is better",
}
_FOREST = ("auc", "log_loss")


def describe(result: Mapping[str, Any]) -> str:
    """Return the comparison as aligned tables, no newline at its end."""
    lines = [
        f"{result['num_examples']:,} rows, {result['num_positives']:,} clicks, matched "
        f"by {result['matched_by']}"
    ]
    for entry in result["comparisons"]:
        lines += ["", f"{entry['candidate']} against {result['baseline']}"]
        lines.append(
            f"{'':<20}{'baseline':>10}{'candidate':>11}{'difference':>12}  "
            f"{'95 % interval':<21}{'p':>9}{'detectable':>12}"
        )
        for name, difference in entry["differences"].items():
            lines.append(_terminal_line(name, difference))
        lines += [f"No {name}: {why}" for name, why in entry["undefined"].items()]
        if any(map(is_significant, entry["differences"].values())):
            lines.append("* chance alone seldom makes such a difference: p below 5 %")
        lines += ["", *entry["verdict"]]
    if result["num_clipped"]:
        lines += ["", _clipped(result)]
    return "\n".join(lines)


def _terminal_line(name: str, difference: Mapping[str, Any]) -> str:
    values = difference["baseline"], difference["candidate"]
    text = f"{_TITLES[name]:<20}{values[0]:>10.5f}{values[1]:>11.5f}"
    text += f"{format_difference(difference['difference'], difference):>12}"
    if "low" not in difference:
        return f"{text}  none: it is biased by noise"
    detectable = difference["detectable"]
    found = (
        ""
        if detectable is None
        else format_difference(detectable, difference, signed=False)
    )
    mark = " *" if is_significant(difference) else ""
    p_value = _p_text(difference["p_value"])
    return f"{text}  {format_interval(difference):<21}{p_value:>9}{found:>12}{mark}"


def comparison_page(result: Mapping[str, Any]) -> Page:
    """Return the comparison as a page; ``result`` is comparison.json's content."""
    candidates = [entry["candidate"] for entry in result["comparisons"]]
    sections = [
        Section("verdict", "Verdict", list(_verdicts(result))),
        Section("forest", "Differences", [Figures(list(_forests(result)))]),
        Section("metrics", "All metrics", list(_metric_tables(result))),
    ]
    if any(entry["slices"] for entry in result["comparisons"]):
        sections.append(Section("slices", "By slice", list(_slice_blocks(result))))
    sections.append(Section("models", "Models and method", list(_origin(result))))
    return Page(
        title=f"{', '.join(candidates)} against {result['baseline']}",
        lead=(
            f"{result['num_examples']:,} rows, {result['num_positives']:,} clicks; "
            f"the same for all models, matched by {result['matched_by']}"
        ),
        headlines=list(_headlines(result)),
        sections=sections,
        footer="Written by dlrm. The same numbers stand in comparison.json.",
    )


def _headlines(result: Mapping[str, Any]) -> Iterator[Headline]:
    for entry in result["comparisons"]:
        several = len(result["comparisons"]) > 1
        for name in ("auc", "log_loss", "calibration"):
            difference = entry["differences"].get(name)
            if difference is None:
                continue
            title = f"{_TITLES[name]} difference"
            yield Headline(
                title=f"{title}, {entry['candidate']}" if several else title,
                value=format_difference(difference["difference"], difference),
                interval=format_interval(difference),
                note=f"{format_value(difference['candidate'])} against "
                f"{format_value(difference['baseline'])}",
            )


def _verdicts(result: Mapping[str, Any]) -> Iterator[Block]:
    for entry in result["comparisons"]:
        yield Note(" ".join(entry["verdict"]))


def _forests(result: Mapping[str, Any]) -> Iterator[Figure]:
    for metric in _FOREST:
        rows = []
        for entry in result["comparisons"]:
            if metric in entry["differences"]:
                difference = entry["differences"][metric]
                rows.append(_forest_row(entry["candidate"], difference, "first"))
        if rows:
            yield _forest(metric, rows, key=f"forest-{metric}", title=_TITLES[metric])


def _forest(metric: str, rows: Sequence[ForestRow], *, key: str, title: str) -> Figure:
    return forest_figure(
        rows,
        key=key,
        title=title,
        summary=(
            f"Difference in {_TITLES[metric]} to the baseline with its 95 % interval; "
            f"{_GOALS[metric]}."
        ),
        axis_label=f"difference in {_TITLES[metric]}",
    )


def _forest_row(name: str, difference: Mapping[str, Any], style: str) -> ForestRow:
    value = format_difference(difference["difference"], difference)
    return ForestRow(
        name=name,
        value=difference["difference"],
        low=difference["low"],
        high=difference["high"],
        text=f"{value} ({format_interval(difference)})",
        style=style,
    )


_METRIC_COLUMNS = (
    Column("Metric"),
    Column("Baseline", number=True),
    Column("Candidate", number=True),
    Column("Difference", number=True),
    Column("95 % interval", number=True),
    Column("p", number=True),
    Column("Detectable", number=True),
    Column("How", remark=True),
)


def _metric_tables(result: Mapping[str, Any]) -> Iterator[Block]:
    for number, entry in enumerate(result["comparisons"]):
        yield Table(
            key=f"metrics-{number}",
            caption=(
                f"{entry['candidate']} less {result['baseline']}. Detectable: the true "
                f"difference that these rows would show four times in five."
            ),
            columns=_METRIC_COLUMNS,
            rows=[
                _metric_cells(name, difference)
                for name, difference in entry["differences"].items()
            ],
        )
        if entry["undefined"]:
            reasons = "; ".join(
                f"{_TITLES[name]}: {why}" for name, why in entry["undefined"].items()
            )
            yield Note(f"Not compared: {reasons}.")
    if len(result["comparisons"]) > 1:
        yield Note("p is of each comparison by itself; the verdicts use Holm's.")


def _metric_cells(name: str, difference: Mapping[str, Any]) -> list[Cell]:
    cells = [
        Cell(_TITLES[name]),
        _number(format_value(difference["baseline"]), difference["baseline"]),
        _number(format_value(difference["candidate"]), difference["candidate"]),
        _number(
            format_difference(difference["difference"], difference),
            difference["difference"],
        ),
    ]
    if "low" not in difference:
        return [*cells, Cell("none"), Cell(""), Cell(""), Cell(_GOALS[name])]
    detectable = difference["detectable"]
    return [
        *cells,
        _number(format_interval(difference), difference["low"]),
        _number(_p_text(difference["p_value"]), difference["p_value"]),
        Cell("")
        if detectable is None
        else _number(
            format_difference(detectable, difference, signed=False), detectable
        ),
        Cell(f"{_GOALS[name]}; {difference['method']}"),
    ]


def _number(text: str, value: float) -> Cell:
    return Cell(text, value)


def _p_text(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


_SLICE_COLUMNS = (
    Column("Slice"),
    Column("Rows", number=True),
    Column("Clicks", number=True),
    Column("AUC difference", number=True),
    Column("95 % interval", number=True),
    Column("p, adjusted", number=True),
    Column("Log loss difference", number=True),
    Column("95 % interval", number=True),
    Column("p, adjusted", number=True),
)


def _slice_blocks(result: Mapping[str, Any]) -> Iterator[Block]:
    for number, entry in enumerate(result["comparisons"]):
        tables = [
            Table(
                key=f"slices-{number}-{place}",
                caption=f"{entry['candidate']} by {cut['key']}",
                columns=_SLICE_COLUMNS,
                rows=[_slice_cells(part) for part in cut["slices"]],
                sortable=True,
            )
            for place, cut in enumerate(entry["slices"])
        ]
        if len(tables) == 1:
            yield tables[0]
        elif tables:
            yield Folded(f"{entry['candidate']} by slice", tables)
    yield Note(
        "p is adjusted by Holm for the number of slices. An interval is of its slice "
        "alone: among twenty of them one misses by chance."
    )
    for skipped in result["skipped_slices"]:
        yield Note(f"Not sliced by {skipped['key']}: {skipped['reason']}.")


def _slice_cells(part: Mapping[str, Any]) -> list[Cell]:
    cells = [
        Cell(part["name"]),
        _number(f"{part['rows']:,}", part["rows"]),
        _number(f"{part['positives']:,}", part["positives"]),
    ]
    for name in ("auc", "log_loss"):
        difference = part["differences"].get(name)
        if difference is None:
            cells += [Cell("undefined"), Cell(""), Cell("")]
            continue
        value = difference["difference"]
        cells += [
            _number(format_difference(value, difference), value),
            _number(format_interval(difference), difference["low"]),
            _number(_p_text(difference["p_adjusted"]), difference["p_adjusted"]),
        ]
    return cells


def _origin(result: Mapping[str, Any]) -> Iterator[Block]:
    rows = []
    for model in result["models"]:
        for path, seed in zip(model["paths"], model["seeds"], strict=True):
            rows.append(
                [
                    Cell(model["name"]),
                    Cell(path),
                    *(
                        Cell("")
                        if seed[name] is None
                        else _number(format_value(seed[name]), seed[name])
                        for name in _FOREST
                    ),
                ]
            )
    yield Table(
        key="models",
        caption="Every seed of every model, by itself.",
        columns=(
            Column("Model"),
            Column("Predictions"),
            *(Column(_TITLES[name], number=True) for name in _FOREST),
        ),
        rows=rows,
    )
    yield Note(
        "Intervals are of the difference, paired row by row, at 95 %. They carry the "
        "test rows and, where a model has several, its seeds: the variances add up, "
        f"with Student's t. Metrics without a formula are drawn {result['num_draws']} "
        f"times anew (seed {result['seed']})."
    )
    if result["num_clipped"]:
        yield Note(_clipped(result))


def _clipped(result: Mapping[str, Any]) -> str:
    return (
        f"{result['num_clipped']:,} probabilities were 0 or 1 and were moved by 2^-52: "
        f"their log loss is a convention. Give logits where there are any."
    )
