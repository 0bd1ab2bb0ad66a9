"""``dlrm compare``: is one model really better than another, on the same rows?"""

from __future__ import annotations

import glob
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands import launch
from dlrm.commands.arguments import CommandHelp, parse
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.progress import report_line

if TYPE_CHECKING:
    from dlrm.comparison.matching import MatchedModels, Model
    from dlrm.config.slices import SliceSpec
    from dlrm.evaluation.slices.choosing import Skipped
    from dlrm.evaluation.slices.dimensions import Dimension

HELP = CommandHelp(
    name="compare",
    summary="Say whether a model is better than another on the same rows",
    usage=(
        "baseline=A candidate=B [candidate=C ...] [split=test] [group=COLUMN]\n"
        "            [slices=COLUMN,...] [name=NAME | output=DIR]"
    ),
    description=(
        "A model is a run directory (its predictions of the split), or a Parquet or "
        "CSV file with labels and scores from anywhere. Several seeds of one model are "
        "separated by ';' or named by a glob; give candidate several times for several "
        "models. Rows are matched by id and label. Writes comparison.json, report.html "
        "and report.md to outputs/comparisons/NAME/ and prints differences with 95 % "
        "intervals, p-values and a verdict."
    ),
    keys={
        "baseline": "the model to beat: a run, a file, or several seeds of it",
        "candidate": "the model to judge, the same; may be given several times",
        "split": "of a run: test (the default), valid, or the name of an evaluation",
        "names": "what the models are called, baseline first: names='old;new'",
        "label": "the labels' column (label)",
        "logit": "the column of logits (calibrated_logit, or logit)",
        "probability": "in its place, that of probabilities (probability)",
        "score": "in their place, that of scores that only rank (score)",
        "weight": "the column of sample weights (weight, where there is one)",
        "id": "the column that tells rows apart (row)",
        "group": "whose rows may be correlated: a column, or none (the run's own)",
        "time": "the column of times, for slices by time",
        "slices": "compare by these too: device,country*device,bucket:price:10",
        "draws": "how often rows are drawn anew, where no formula will do (500)",
        "seed": "of these draws (0)",
        "name": "the folder of the results below outputs/comparisons",
        "output": "or any other folder for them",
    },
    examples=(
        "dlrm compare baseline=outputs/dlrm candidate=outputs/dcnv2",
        "dlrm compare baseline='outputs/dlrm-*' candidate='outputs/dcnv2-*'",
        "dlrm compare baseline=outputs/dlrm candidate=theirs.csv probability=p "
        "id=impression group=user",
    ),
)

COMPARISONS = Path("outputs/comparisons")
RESULT_FILE, REPORT_FILE, MARKDOWN_FILE = (
    "comparison.json", "report.html", "report.md",
)  # fmt: skip
_NUM_VALUES = 20
"""Values of a column that are slices of their own; the rest are one."""


def main(argv: list[str]) -> int:
    """Run the command."""
    launch.refuse_ranks("compare")
    arguments = parse(argv, HELP.keys, repeatable=("candidate",))
    values = arguments.values
    if arguments.overrides:
        raise ConfigError(
            f"dlrm compare has no settings, but got {arguments.overrides[0]}. Its keys "
            f"are {', '.join(HELP.keys)}."
        )
    candidates = arguments.repeated.get("candidate", [])
    if not values.get("baseline") or not all(candidates) or not candidates:
        raise ConfigError(
            f"baseline and candidate must be set, but they are not both. Type, say, "
            f"{HELP.examples[0]}"
        )
    compare(
        _split_paths(values["baseline"], key="baseline"),
        [_split_paths(text, key="candidate") for text in candidates],
        names=_parts(values.get("names", "")),
        split=values.get("split", "test"),
        slices=_parts(values.get("slices", ""), mark=","),
        time=values.get("time"),
        draws=_whole_number(values, "draws", 500, least=2),
        seed=_whole_number(values, "seed", 0, least=0),
        name=values.get("name"),
        output=values.get("output"),
        label=values.get("label"),
        logit=values.get("logit"),
        probability=values.get("probability"),
        score=values.get("score"),
        weight=values.get("weight"),
        id=values.get("id"),
        group=values.get("group"),
    )
    return 0


def compare(
    baseline: str | Path | Sequence[str | Path],
    candidate: str | Path | Sequence[str | Path | Sequence[str | Path]],
    *,
    names: Sequence[str] = (),
    split: str = "test",
    label: str | None = None,
    logit: str | None = None,
    probability: str | None = None,
    score: str | None = None,
    weight: str | None = None,
    id: str | None = None,
    group: str | None = None,
    time: str | None = None,
    slices: Sequence[str] = (),
    draws: int = 500,
    seed: int = 0,
    name: str | None = None,
    output: str | Path | None = None,
    report: Callable[[str], None] = report_line,
) -> dict[str, Any]:
    """Compare models on the same rows; return the content of comparison.json.

    ``baseline`` is a run directory, a file, or a list of them: one model's seeds.
    ``candidate`` is a path, or a list of candidates, each a path or a list of one
    model's seeds. The other arguments are the command's keys. Where a file lacks a
    column that is named but has the usual one, that is taken.

    Raises:
        UserError: Something cannot be read, or the models were not scored on the same
            rows; see the message.
    """
    from dlrm.comparison.comparing import Sampling
    from dlrm.comparison.comparing import compare as compare_matched
    from dlrm.comparison.matching import match_models
    from dlrm.comparison.report import comparison_page, describe
    from dlrm.comparison.sources import ColumnNames
    from dlrm.config.slices import parse_slices

    models = _models(_seeds(baseline), _candidates(candidate), names)
    folder = _results_folder(models, name, output)
    specs = parse_slices(slices, key="slices")
    kept = [column for spec in specs for column in spec.columns]
    columns = ColumnNames(
        label=label,
        logit=logit,
        probability=probability,
        score=score,
        weight=weight,
        id=id,
        group=group,
        kept=tuple(dict.fromkeys([*kept, *([time] if time else [])])),
    )
    matched = match_models(models, columns, split=split)
    dimensions, skipped = _deal(slices, matched, time)
    result = compare_matched(
        matched,
        dimensions=dimensions,
        skipped=skipped,
        sampling=Sampling(num_draws=draws, seed=seed),
    )
    _write(folder, result, comparison_page(result))
    report(describe(result))
    report(f"\nreport  {folder / REPORT_FILE}")
    return result


def _deal(
    slices: Sequence[str], matched: MatchedModels, time: str | None
) -> tuple[list[Dimension], list[Skipped]]:
    from dlrm.config.data import DataConfig, SourceFormat
    from dlrm.config.slices import parse_slices
    from dlrm.evaluation.slices.choosing import RawRows, check_columns, deal

    if not slices:
        return [], []
    specs = parse_slices(slices, key="slices")
    _check_slices(specs, group=matched.group, time=time)
    data = DataConfig(
        name="comparison",
        format=SourceFormat.table,
        group_column=matched.group,
        time_column=time,
    )
    check_columns(specs, data, matched.kept.column_names)
    raw = RawRows(kept=matched.kept, data=data)
    return deal(specs, raw, num_values=_NUM_VALUES)


def _check_slices(
    specs: Sequence[SliceSpec], *, group: str | None, time: str | None
) -> None:
    from dlrm.config.slices import SliceKind

    needed = {SliceKind.time: ("time", time), SliceKind.activity: ("group", group)}
    for spec in specs:
        for part in spec.parts:
            key, column = needed.get(part.kind, ("", ""))
            if column is None:
                raise ConfigError(
                    f"{key} must be set for slices={spec.text}, but it is not. Name "
                    f"the column: {key}=COLUMN"
                )


def _write(folder: Path, result: Mapping[str, Any], page: Any) -> None:
    from dlrm.evaluation.markdown import render_markdown
    from dlrm.evaluation.page import render_html
    from dlrm.evaluation.replace import replacing_folder

    with replacing_folder(folder) as aside:
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
        (aside / RESULT_FILE).write_text(text, encoding="utf-8")
        (aside / REPORT_FILE).write_text(render_html(page), encoding="utf-8")
        (aside / MARKDOWN_FILE).write_text(render_markdown(page), encoding="utf-8")


def _split_paths(text: str, *, key: str) -> list[Path]:
    """Return the paths of one model's seeds: parts between ``;``, and globs."""
    found: list[Path] = []
    for part in _parts(text):
        path = Path(part).expanduser()
        if not path.exists() and glob.has_magic(part):
            from dlrm.data.sources.files import natural_order

            matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
            if not matches:
                raise DataError(
                    f"{key} must match at least one run or file, but {part} matches "
                    f"none."
                )
            found += sorted(matches, key=natural_order)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _parts(text: str, *, mark: str = ";") -> list[str]:
    return [part.strip() for part in text.split(mark) if part.strip()]


def _whole_number(
    values: Mapping[str, str], key: str, default: int, *, least: int
) -> int:
    text = values.get(key, str(default))
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(
            f"{key} must be a whole number of at least {least}, but it is '{text}'."
        )
    return int(text)


def _seeds(model: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = [model] if isinstance(model, str | Path) else list(model)
    if not paths:
        raise ConfigError("A model must have at least one path, but there is none.")
    return [Path(path) for path in paths]


def _candidates(
    candidate: str | Path | Sequence[str | Path | Sequence[str | Path]],
) -> list[list[Path]]:
    if isinstance(candidate, str | Path):
        return [[Path(candidate)]]
    if not candidate:
        raise ConfigError("candidate must name at least one model, but names none.")
    return [_seeds(model) for model in candidate]


def _models(
    baseline: list[Path], candidates: list[list[Path]], names: Sequence[str]
) -> list[Model]:
    from dlrm.comparison.matching import Model

    every = [baseline, *candidates]
    if names and (len(names) != len(every) or len(set(names)) < len(names)):
        raise ConfigError(
            f"names must be {len(every)} names that differ, the baseline's first, but "
            f"they are {'; '.join(names)}."
        )
    found: list[str] = list(names)
    if not names:
        for paths in every:
            plain = _model_name(paths)
            number = sum(name.partition(" (")[0] == plain for name in found) + 1
            found.append(plain if number == 1 else f"{plain} ({number})")
    return [Model(n, tuple(p)) for n, p in zip(found, every, strict=True)]


def _model_name(paths: Sequence[Path]) -> str:
    """Return what the names of a model's seeds have in common, or the first one."""
    names = [_path_name(path) for path in paths]
    if len(names) == 1:
        return names[0]
    first = _common_start(names)
    last = _common_start([name[::-1] for name in names])[::-1]
    shared = [
        re.sub(r"[-_. ]+\d*$", "", first).strip("-_. "),
        re.sub(r"^\d*[-_. ]+", "", last).strip("-_. "),
    ]
    best = max(shared, key=len)
    return best if re.search(r"[^\W\d]", best) else names[0]


def _common_start(texts: Sequence[str]) -> str:
    columns = zip(*texts, strict=False)
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, columns)
    return "".join(letters[0] for letters in same)


def _path_name(path: Path) -> str:
    """Return the run's name, or the file's up to its first dot."""
    full = path.resolve()
    if full.is_dir():
        return full.name
    if full.parent.parent.name == "evaluation":
        return full.parents[2].name
    return full.name.partition(".")[0] or full.name


def _results_folder(
    models: Sequence[Model], name: str | None, output: str | Path | None
) -> Path:
    """Return where the results go; what is no comparison's is never replaced."""
    if name is not None and output is not None:
        raise ConfigError(
            f"Either name or output must be given, but both are: name={name} and "
            f"output={output}. Leave one out."
        )
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(
            f"name must be letters, digits, dots and dashes, but it is '{name}'. Say "
            f"what the results are called: name=monday"
        )
    if output is None:
        baseline, *candidates = [model.name for model in models]
        folder = COMPARISONS / (name or _folder_name(candidates, baseline))
    else:
        folder = Path(output)
        folder = folder if folder.name not in ("", "..") else folder.resolve()
    ours = folder.is_dir() and (folder / RESULT_FILE).is_file()
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not (ours or empty):
        raise ConfigError(
            f"output must be a new folder, or one with an earlier comparison, but "
            f"{folder} holds something else. Name another one: output=DIR"
        )
    return folder


def _folder_name(candidates: Sequence[str], baseline: str) -> str:
    text = f"{'-'.join(candidates)[:80]}-against-{baseline[:80]}"
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "comparison"
