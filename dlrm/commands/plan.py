"""``dlrm plan``: where tables go and whether they fit, with no GPU in sight."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands.arguments import CommandHelp, check_folder_of, parse
from dlrm.commands.code import import_code
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError

if TYPE_CHECKING:
    from dlrm.config.root import Config
    from dlrm.data.preparation.expected import Expected
    from dlrm.planning.plan import Planned

HELP = CommandHelp(
    name="plan",
    summary="Say where tables go, what they take, and whether they fit",
    usage=(
        "[data=NAME] [model=NAME] [sharding=NAME] [hardware=NAME] [key=value ...]\n"
        "            [format=text|json] [output=FILE.json|FILE.html]"
    ),
    description=(
        "Needs no GPU and no raw data. Table sizes come from the prepared dataset "
        "where there is one, else from num_embeddings. Prints every rank's bytes, the "
        "estimated step time and each table's shards; where something does not fit, "
        "says which tables to shard or shrink, by how much, and exits with 2."
    ),
    keys={
        "format": "text (the default) or json, to standard output",
        "output": "a file for the whole plan: .json, or .html with pictures",
        "bag_lengths": "ids a row where the data is not prepared: genres:3,tags:12",
        "--code": "a Python file of your own that registers a model",
    },
    settings={
        "hardware": "cpu, l4, a100_40gb, a100, h100, h200, b200; else this machine",
        "hardware.num_gpus": "GPUs of the whole job, one a process",
        "sharding": "auto, or one strategy for all tables: row_wise, grid, ...",
        "tables.<table>.sharding.strategy": "how one table lies",
        "trainer.global_batch_size": "examples a step over all processes",
    },
    examples=(
        "dlrm plan experiment=mlperf_dcnv2 hardware=a100 hardware.num_gpus=8",
        "dlrm plan experiment=mlperf_dcnv2 hardware=h200 output=plan.html",
        "dlrm plan data=clicks model=dlrm sharding=row_wise hardware=cpu "
        "hardware.num_gpus=4",
    ),
)

_SUFFIXES = (".json", ".html")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    kind = arguments.values.get("format", "text")
    if kind not in ("text", "json"):
        raise ConfigError(f"format must be text or json, but it is '{kind}'.")
    output = arguments.values.get("output")
    if output is not None:
        _check_output(Path(output))
    described = plan(
        *arguments.overrides,
        bag_lengths=_bag_lengths(arguments.values.get("bag_lengths", "")),
        code=arguments.code,
    )
    command = shlex.join(["dlrm", "plan", *argv])
    title = described["title"]
    if not described["fits"]:
        if kind == "text":
            _print_text(described, title)
        raise ConfigError(described["advice"])
    if output is not None:
        _write(Path(output), described, title=title, command=command)
    if kind == "json":
        print(_as_json(described))
    else:
        _print_text(described, title)
        if output is not None:
            print(f"\nplan    {output}")
    return 0


def plan(
    *overrides: str,
    bag_lengths: dict[str, float] | None = None,
    code: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Return a plan as plain data: ``dlrm.planning.report.describe_plan``'s.

    ``overrides`` are what follows ``dlrm plan`` on the command line; ``bag_lengths``
    are ids a row of multi-hot features, by name.

    Raises:
        UserError: A setting does not fit, nobody knows a table's size, or torchrec's
            planner finds no place for a table.
    """
    config = compose(list(overrides))
    import_code([Path(file) for file in code])

    from dlrm.data.preparation.expected import expect_dataset

    expected = expect_dataset(config.data)
    lengths = _lengths(expected, bag_lengths or {})
    notes = _notes(config, expected, bag_lengths or {})
    planned = _plan(config, expected, lengths)

    from dlrm.planning.report import describe_plan

    num = planned.plan.world_size * config.sharding.replicas
    title = (
        f"{config.model['name']} on {config.data.name}: {num} "
        f"{'process' if num == 1 else 'processes'}, global batch "
        f"{config.trainer.global_batch_size:,}"
    )
    return {"title": title, **describe_plan(planned, notes)}


def _plan(config: Config, expected: Expected, lengths: dict[str, float]) -> Planned:
    from dlrm.models import build_model, model_config
    from dlrm.planning.machine import this_machine
    from dlrm.planning.plan import plan_model

    model = model_config(config.model)
    schema = expected.schema.with_model_options(
        config.data.sparse_features, config.tables, model
    )
    hardware = config.hardware
    if hardware is None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        hardware = this_machine(device)
        hardware.num_gpus = config.launcher.processes or 1
    world_size = hardware.num_gpus
    return plan_model(
        build_model(model, schema),
        sharding=config.sharding,
        hardware=hardware,
        optimizer=config.optimizer.sparse,
        world_size=world_size,
        ranks_per_node=min(hardware.gpus_per_node, world_size),
        device_type="cpu" if hardware.on_cpu else "cuda",
        global_batch_size=config.trainer.global_batch_size,
        average_lengths=lengths,
        schema=schema,
        dense_optimizer=config.optimizer.dense,
    )


def _lengths(expected: Expected, given: dict[str, float]) -> dict[str, float]:
    known = [feature.name for feature in expected.schema.multi_hot]
    for name in given:
        if name not in known:
            raise ConfigError(
                f"bag_lengths must name multi-hot features of the data, but there is "
                f"no '{name}'. It has: {', '.join(known) or 'none'}."
            )
    return {**expected.average_lengths, **given}


def _notes(config: Config, expected: Expected, given: dict[str, float]) -> list[str]:
    notes = []
    if expected.folder is not None:
        notes.append(f"Table sizes and bag lengths are those of {expected.folder}.")
    else:
        notes.append("Table sizes are those of the config: the most there can be.")
    assumed = [name for name in expected.assumed if name not in given]
    if assumed:
        from dlrm.data.preparation.expected import ASSUMED_LENGTH

        notes.append(
            f"Bags of {', '.join(assumed)} are taken to have {ASSUMED_LENGTH:g} ids: "
            f"prepare the data, or say so with "
            f"bag_lengths={','.join(f'{name}:3' for name in assumed[:2])}."
        )
    if config.hardware is None:
        notes.append("No hardware is set: this machine's memory, default rates.")
    if config.sharding.replicas > 1:
        notes.append(
            f"Shown is one of {config.sharding.replicas} groups of processes; all hold "
            f"the same."
        )
    return notes


def _bag_lengths(text: str) -> dict[str, float]:
    found = {}
    for entry in filter(None, text.split(",")):
        name, colon, number = entry.rpartition(":")
        try:
            length = float(number)
        except ValueError:
            length = math.nan
        if not colon or not 0 <= length < math.inf:
            raise ConfigError(
                f"bag_lengths must be features with their ids a row, such as "
                f"genres:3,tags:12, but it holds '{entry}'."
            )
        found[name] = length
    return found


def _check_output(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise ConfigError(
            f"output must end in {' or '.join(_SUFFIXES)}, but it is '{path}'."
        )
    check_folder_of(path)


def _write(path: Path, described: dict[str, Any], *, title: str, command: str) -> None:
    """Write the file whole or not at all."""
    if path.suffix == ".json":
        text = _as_json(described) + "\n"
    else:
        from dlrm.planning.page import render_plan

        text = render_plan(described, title=title, command=command)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _as_json(described: dict[str, Any]) -> str:
    return json.dumps(described, indent=2)


def _print_text(described: dict[str, Any], title: str) -> None:
    from dlrm.planning.report import format_plan

    print(format_plan(described, title))
    sys.stdout.flush()
