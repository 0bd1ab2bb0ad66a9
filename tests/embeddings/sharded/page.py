"""Write the table of docs/embeddings.md: python -m tests.embeddings.sharded.page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlrm.config.errors import ConfigError
from dlrm.config.sections import check_section
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.sharded.refusals import refusal
from tests.embeddings.sharded.matrix import (
    OPTIONS,
    OWN_OPTIONS,
    TORCH_ARGUMENTS,
    Option,
    refused,
)

PAGE = Path(__file__).parents[3] / "docs" / "embeddings.md"
BEGIN = "<!-- What follows is written by: python -m tests.embeddings.sharded.page -->"
LOCAL = "local"
_WITH = "{backends}"
BACKENDS = (LOCAL, *(strategy.value for strategy in Strategy))


@dataclass(frozen=True)
class Row:
    """An option; by backend, the test that shows it works, or why it is refused."""

    name: str
    works: dict[str, str]
    refused: dict[str, str]


def rows() -> list[Row]:
    """Return all rows of the table."""
    return [*(_row_of(option) for option in OPTIONS), *_further_rows()]


def render() -> str:
    """Return the page's generated end."""
    reasons: dict[str, list[str]] = {}
    lines = [
        "| option | torch's argument | key of `tables.<table>` | "
        + " | ".join(BACKENDS)
        + " |",
        "|---" * (3 + len(BACKENDS)) + "|",
    ]
    for row in rows():
        cells = [_cell(row, backend, reasons) for backend in BACKENDS]
        lines.append(
            f"| {row.name} | {_keys(row.name, TORCH_ARGUMENTS)} | "
            f"{_keys(row.name, OWN_OPTIONS)} | " + " | ".join(cells) + " |"
        )
    notes = [
        f"{n}. {reason.replace(_WITH, _and(backends))}"
        for n, (reason, backends) in enumerate(reasons.items(), start=1)
    ]
    return "\n".join([BEGIN, "", *lines, "", "Refused because:", "", *notes, ""])


def write() -> None:
    """Write the page anew below its prose."""
    prose = PAGE.read_text(encoding="utf-8").split(BEGIN)[0]
    PAGE.write_text(prose + render(), encoding="utf-8")


def _cell(row: Row, backend: str, reasons: dict[str, list[str]]) -> str:
    why = row.refused.get(backend)
    if why is None:
        test = row.works[backend]
        return "works" if test == _test_of(row.name, backend) else f"works: `{test}`"
    why = why.replace(f"go with {backend}:", f"go with {_WITH}:")
    if backend not in reasons.setdefault(why, []):
        reasons[why].append(backend)
    return f"refused ({list(reasons).index(why) + 1})"


def _and(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _keys(name: str, groups: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"`{key}`" for key, names in groups.items() if name in names)


def _test_of(option: str, backend: str) -> str:
    return f"[{option}]" if backend == LOCAL else f"[{option}-{backend}]"


def _row_of(option: Option) -> Row:
    works, refusals = {LOCAL: _test_of(option.name, LOCAL)}, {}
    for strategy in Strategy:
        why = refused(option, strategy)
        if why is None:
            works[strategy.value] = _test_of(option.name, strategy.value)
        else:
            refusals[strategy.value] = why
    return Row(option.name, works, refusals)


def _further_rows() -> list[Row]:
    learned = "gradient of per_sample_weights"
    reasons = {strategy.value: refusal(learned, strategy) for strategy in Strategy}
    own = {
        LOCAL: "test_weights_of_ids_receive_their_gradient",
        Strategy.data_parallel.value: "test_replicas_give_weights_their_gradient",
    }
    cut = "test_long_bags_keep_their_first_ids"
    bad_id = "test_an_id_out_of_range_is_named_before_it_is_sent"
    steps = "test_twenty_steps_are_those_of_one_process"
    named = dict.fromkeys(BACKENDS, bad_id)
    named[LOCAL] = "test_an_id_out_of_range_is_named"
    return [
        Row(learned, own, {name: why for name, why in reasons.items() if why}),
        Row("sharding.strategy", dict.fromkeys(BACKENDS, steps), {}),
        Row("dtype=float64", {}, dict.fromkeys(BACKENDS, _refused_type())),
        Row("max_length", dict.fromkeys(BACKENDS, cut), {}),
        Row("an id out of range is named", named, {}),
    ]


def _refused_type() -> str:
    try:
        check_section(TableOptions, {"dtype": "float64"}, key="tables.<table>")
    except ConfigError as error:
        return str(error)
    raise AssertionError("float64 is accepted: give it a case in matrix.py")


if __name__ == "__main__":
    write()
