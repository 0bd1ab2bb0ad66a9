"""``dlrm train``: raw rows or a prepared dataset in, a judged run directory out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands.arguments import CommandHelp, parse
from dlrm.commands.code import check_code, import_code
from dlrm.config.checks import require
from dlrm.config.compose import compose, load_config, save_config
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line
from dlrm.config.task import TaskName
from dlrm.config.towers import TowersConfig
from dlrm.distributed.context import ProcessContext

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.config.root import Config
    from dlrm.data.storage.dataset import Dataset
    from dlrm.run import Run

HELP = CommandHelp(
    name="train",
    summary="Train a model, preparing the data first if needed",
    usage="[data=NAME] [model=NAME] [key=value ...] [--code FILE] [-m]",
    description=(
        "Prepares the dataset where that is not done yet, trains, keeps the checkpoint "
        "that is best on the validation split, evaluates it on the test split and "
        "prints the run directory. With run=DIR an earlier run goes on where it "
        "stopped."
    ),
    keys={
        "run": "a run directory to go on with",
        "-m": "a sweep: one run for each combination of comma-separated values",
        "--code": "a Python file of your own that registers a model",
    },
    settings={
        "data": "which data: synthetic, movielens_1m, criteo_kaggle, or your own YAML",
        "model": "which model: dlrm, dlrm_dcnv2",
        "trainer.num_epochs": "passes over the training rows",
        "trainer.global_batch_size": "examples a step",
        "optimizer.sparse.lr": "learning rate of the embedding tables",
        "optimizer.dense.lr": "learning rate of everything else",
        "init_from": "an earlier run to start from: its rows by key, its parameters",
    },
    examples=(
        "dlrm train",
        "dlrm train data=movielens_1m data.source=ml-1m trainer.seed=1",
        "dlrm train -m optimizer.dense.lr=0.001,0.01 trainer.seed=1,2",
        "dlrm train run=outputs/20260131-101500-synthetic-dlrm",
        "dlrm train data=clicks init_from=outputs/20260131-101500-clicks-dlrm",
    ),
)

_RESUMABLE = ("trainer.num_epochs", "trainer.max_steps", "trainer.num_threads")
"""Settings that may change between a run's first start and a later one."""

_JUDGED = ("test", "valid")
"""Splits that a finished run is evaluated on: the first that has rows."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, ("run",), sweeps=True)
    if arguments.multirun:
        _check_one_process()
        from dlrm.commands.sweep import sweep

        return sweep(arguments.overrides, code=arguments.code)

    from dlrm.interrupts import RunInterruptedError

    run = arguments.values.get("run")
    try:
        if run is None:
            train(*arguments.overrides, code=arguments.code)
        else:
            resume(run, *arguments.overrides, code=arguments.code)
    except RunInterruptedError as stop:
        print(f"Stopped by {stop}.", file=sys.stderr)
        return 130
    return 0


def train(
    *overrides: str,
    frame: pd.DataFrame | dict[str, pd.DataFrame] | None = None,
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = report_line,
) -> Run:
    """Train a new run and return it, evaluated.

    ``overrides`` are what follows ``dlrm train`` on the command line. ``frame`` stands
    for the files of ``data.source``: one DataFrame, or one for each of train, valid and
    test.

    Raises:
        UserError: A setting, the data or the installation does not fit; see its
        message.
    """
    _check_one_process()
    config = compose(list(overrides))
    files = [Path(file) for file in code]
    import_code(files)

    from dlrm.data.sources import open_source

    open_source(config.data, frame)  # Missing files are named before torch is loaded.
    _check_before_preparing(config)

    from dlrm.data.preparation.prepare import prepare_dataset
    from dlrm.data.storage.dataset import Dataset
    from dlrm.run import create_run

    folder = prepare_dataset(config.data, frame=frame)
    dataset = Dataset.open(folder)
    run = create_run(config, dataset=folder, code=files)
    _fit_and_judge(run, dataset, report, is_new=True)
    return run


def _check_one_process() -> None:
    size = ProcessContext.from_environment().world_size
    if size > 1:
        raise ConfigError(
            f"dlrm train is one process in this version, but WORLD_SIZE is {size}: "
            f"each process would train a model of its own. Start it without torchrun, "
            f"or unset WORLD_SIZE."
        )


def _check_before_preparing(config: Config) -> None:
    """Refuse what need not wait for the data, which may take hours to prepare."""
    # The other sections have been checked by now, so that a mistake there cost no
    # import of torch.
    from dlrm.metric_log import check_loggers
    from dlrm.models import check_task, model_config
    from dlrm.optim.dense import check_dense_optimizer
    from dlrm.run import new_folder
    from dlrm.warm_start.start import check_start

    model = model_config(config.model)
    task = config.task.resolved(config.data.label_kind)
    check_task(model, task)
    require(
        not config.data.all_clicks or task is TaskName.retrieval,
        "data.all_clicks",
        "false but for task.name=retrieval",
        config.data.all_clicks,
    )
    if isinstance(model, TowersConfig):
        model.check_features(
            [*config.data.sparse_features, *config.data.dense_features]
        )
    check_dense_optimizer(config.optimizer.dense)
    check_loggers(config.logger)
    new_folder(config)
    check_start(config)


def resume(
    run: str | Path,
    *overrides: str,
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = report_line,
) -> Run:
    """Go on with a run from its newest whole checkpoint and return it, evaluated.

    Raises:
        UserError: The run or its data does not fit; see the message.
    """
    _check_one_process()
    folder = Path(run)
    for text in overrides:
        if text.partition("=")[0] not in _RESUMABLE:
            raise ConfigError(
                f"A run that exists keeps its settings, but {text} was given with "
                f"run={run}. Only {', '.join(_RESUMABLE)} may change; start another "
                f"run for the rest."
            )
    import_code([Path(file) for file in code])
    check_code(folder, given=bool(code))

    from dlrm.run import CONFIG_FILE, open_dataset, open_run

    opened = open_run(folder)
    if overrides:
        config = load_config(folder / CONFIG_FILE, overrides)
        save_config(config, folder / CONFIG_FILE)
        opened = dataclasses.replace(opened, config=config)
    _fit_and_judge(opened, open_dataset(opened), report, is_new=False)
    return opened


def _fit_and_judge(
    run: Run, dataset: Dataset, report: Callable[[str], None], *, is_new: bool
) -> None:
    from dlrm.commands.evaluate import evaluate_split
    from dlrm.interrupts import RunInterruptedError
    from dlrm.run import locked, removed_unless_built
    from dlrm.scoring import judge_of
    from dlrm.trainer import Trainer

    with locked(run):
        with removed_unless_built(run) if is_new else nullcontext():
            trainer = Trainer(run, dataset, report=report)
            if is_new:
                trainer.begin()
        report(trainer.describe())
        try:
            trainer.fit()
        except RunInterruptedError:
            report(f"Go on with: dlrm train run={run.folder}")
            raise
        del trainer  # Frees the optimizer state before the evaluation.
        for split in [s for s in _JUDGED if dataset.schema.num_rows(s)][:1]:
            metrics = evaluate_split(run, dataset, split=split)
            shown = judge_of(run).describe(metrics)
            report(f"\nBest checkpoint on the {split} split:\n{shown}")
            report(f"\nreport  {run.evaluation(split) / 'report.html'}")
        report(f"run     {run.folder}")
