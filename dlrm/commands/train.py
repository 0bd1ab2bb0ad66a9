"""``dlrm train``: raw rows or a prepared dataset in, a judged run directory out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands import launch
from dlrm.commands.arguments import CommandHelp, parse
from dlrm.commands.code import check_code, import_code
from dlrm.commands.reproduce import reproduce
from dlrm.commands.starting import OpenedAhead, import_torch
from dlrm.config.checks import require
from dlrm.config.compose import CONFIG_FILE, compose, load_config
from dlrm.config.differences import RESUMABLE, differing_settings, is_resumable
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line
from dlrm.config.task import TaskName
from dlrm.config.towers import TowersConfig
from dlrm.distributed.context import ProcessContext

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.config.root import Config
    from dlrm.data.storage.dataset import Dataset
    from dlrm.distributed.job import Job
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
        "reproduce": "a run directory to repeat, beside it; exit code 1 where a result "
        "is not the same to the bit",
        "-m": "a sweep: one run for each combination of comma-separated values",
        "hydra/launcher": "with -m, submit the runs as jobs: submitit_slurm, "
        "submitit_local",
        "hydra.launcher.KEY": "nodes, tasks_per_node, ... of those jobs",
        "--code": "a Python file of your own that registers a model",
    },
    settings={
        "data": "which data: synthetic, movielens_1m, criteo_kaggle, or your own YAML",
        "model": "which model: dlrm, dlrm_dcnv2",
        "trainer.num_epochs": "passes over the training rows",
        "trainer.global_batch_size": "examples a step",
        "optimizer.sparse.lr": "learning rate of the embedding tables",
        "optimizer.dense.lr": "learning rate of everything else",
        "launcher.processes": "processes of this machine, one a GPU",
        "init_from": "an earlier run to start from: its rows by key, its parameters",
    },
    examples=(
        "dlrm train",
        "dlrm train data=movielens_1m data.source=ml-1m trainer.seed=1",
        "dlrm train -m optimizer.dense.lr=0.001,0.01 trainer.seed=1,2",
        "dlrm train launcher.processes=4",
        "dlrm train run=outputs/20260131-101500-synthetic-dlrm",
        "dlrm train data=clicks init_from=outputs/20260131-101500-clicks-dlrm",
        "dlrm train reproduce=outputs/20260131-101500-clicks-dlrm",
    ),
)

_JUDGED = ("test", "valid")
"""Splits that a finished run is evaluated on: the first that has rows."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, ("run", "reproduce"), sweeps=True)
    if arguments.multirun:
        _check_no_ranks()
        from dlrm.commands.sweep import sweep

        return sweep(arguments.overrides, code=arguments.code)

    run = arguments.values.get("run")
    if "reproduce" in arguments.values:
        require(run is None, "run", "left out beside reproduce", run)
        return reproduce(argv, arguments, begin=_begin)
    config = _config_of(run, arguments.overrides)
    if config is not None and launch.needed(config.launcher):
        return launch.run(
            ["train", *argv], launcher=config.launcher, trainer=config.trainer
        )

    from dlrm.interrupts import RunInterruptedError

    try:
        if run is None:
            assert config is not None
            _begin(config, frame=None, files=arguments.code, report=report_line)
        else:
            resume(run, *arguments.overrides, code=arguments.code)
    except RunInterruptedError as stop:
        if ProcessContext.from_environment().rank == 0:
            print(f"Stopped by {stop}.", file=sys.stderr)
        return 130
    return 0


def _config_of(run: str | None, overrides: Sequence[str]) -> Config | None:
    """Return the settings that say how many processes; None where there is no run."""
    if run is None:
        return compose(overrides)
    file = Path(run) / CONFIG_FILE
    allowed = [text for text in overrides if is_resumable(text.partition("=")[0])]
    return load_config(file, allowed) if file.is_file() else None


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
    files = [Path(file) for file in code]
    return _begin(compose(list(overrides)), frame=frame, files=files, report=report)


def _begin(
    config: Config,
    *,
    frame: pd.DataFrame | dict[str, pd.DataFrame] | None,
    files: list[Path],
    report: Callable[[str], None],
) -> Run:
    """Meet the job's other processes, once all is checked that needs none of them."""
    launch.check_launched(config.launcher)
    import_code(files)

    from dlrm.data.sources import open_source

    # Missing files are named before torch is loaded.
    source = open_source(config.data, frame)
    opened = OpenedAhead(config.data, source if frame is None else None)
    import_torch()
    _check_before_preparing(config)

    from dlrm.distributed.device import choose_device
    from dlrm.distributed.job import joined

    device = choose_device(config.trainer.device)
    with joined(device, watch=config.watch) as job:
        return _train(
            config, job, frame=frame, files=files, report=report, opened=opened
        )


def _train(
    config: Config,
    job: Job,
    *,
    frame: pd.DataFrame | dict[str, pd.DataFrame] | None,
    files: list[Path],
    report: Callable[[str], None],
    opened: OpenedAhead,
) -> Run:
    from dlrm.data.preparation.prepare import prepare_dataset
    from dlrm.data.storage.dataset import Dataset
    from dlrm.distributed.watch import Phase
    from dlrm.earlier_run import earlier_run
    from dlrm.evaluation.slices.future import refuse_future
    from dlrm.run import create_run, open_dataset

    _check_one_config(config, job)
    earlier = job.by_writer(lambda: earlier_run(config))
    if earlier is not None:
        dataset = job.together(lambda: open_dataset(earlier))
        _fit_and_judge(earlier, dataset, report, job)
        return earlier
    job.watch.enter(Phase.prepare, "preparing the data")
    folder = job.by_writer(lambda: prepare_dataset(config.data, frame=frame))
    dataset = job.together(
        lambda: opened.take(folder) or Dataset.open(folder, verify=job.is_writer)
    )
    if config.evaluation.forbid_future:
        job.by_writer(lambda: refuse_future(dataset, config.data))
    run = job.by_writer(lambda: create_run(config, dataset=folder, code=files, job=job))
    _fit_and_judge(run, dataset, report, job, is_new=True)
    return run


def _check_one_config(config: Config, job: Job) -> None:
    """Refuse a job whose processes were given different settings."""
    for rank, other in enumerate(job.all_gather(config)):
        differing = differing_settings(config, other)
        if differing:
            raise ConfigError(
                f"All processes of a job must have one configuration, but ranks "
                f"{job.rank} and {rank} differ in {differing[0]}. Give every process "
                f"the same command and the same conf/."
            )


def _check_no_ranks() -> None:
    size = ProcessContext.from_environment().world_size
    if size > 1:
        raise ConfigError(
            f"A sweep starts its runs itself, but WORLD_SIZE is {size}: each process "
            f"would start all of them. Start -m without torchrun; with "
            f"launcher.processes=N each run has N processes."
        )


def _check_before_preparing(config: Config) -> None:
    """Refuse what need not wait for the data, which may take hours to prepare."""
    # The other sections have been checked by now, so that a mistake there cost no
    # import of torch.
    from dlrm.distributed.restart import is_restart
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
    if not config.resume and not is_restart():
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
    folder = Path(run)
    for text in overrides:
        if not is_resumable(text.partition("=")[0]):
            raise ConfigError(
                f"A run that exists keeps its settings, but {text} was given with "
                f"run={run}. Only {', '.join(RESUMABLE)} may change; start another "
                f"run for the rest."
            )
    import_code([Path(file) for file in code])
    check_code(folder, given=bool(code))

    import_torch()

    from dlrm.distributed.device import choose_device
    from dlrm.distributed.job import joined
    from dlrm.earlier_run import keep_settings
    from dlrm.run import open_dataset, open_run

    opened = open_run(folder)
    if overrides:
        config = load_config(folder / CONFIG_FILE, overrides)
        opened = dataclasses.replace(opened, config=config)
    launch.check_launched(opened.config.launcher)
    device = choose_device(opened.config.trainer.device)
    with joined(device, watch=opened.config.watch) as job:
        if overrides:
            job.by_writer(lambda: keep_settings(opened))
        dataset = job.together(lambda: open_dataset(opened))
        _fit_and_judge(opened, dataset, report, job)
    return opened


def _fit_and_judge(
    run: Run,
    dataset: Dataset,
    report: Callable[[str], None],
    job: Job,
    *,
    is_new: bool = False,
) -> None:
    from dlrm.commands.calibrate import calibrate_after_training, check_calibration
    from dlrm.commands.evaluating import evaluate_split, slice_lines
    from dlrm.distributed.watch import Phase
    from dlrm.interrupts import RunInterruptedError
    from dlrm.run import locked, removed_unless_built
    from dlrm.trainer import Trainer

    job.watch.enter(Phase.start, "building the model")
    with ExitStack() as stack:
        job.by_writer(lambda: stack.enter_context(locked(run)))
        cleaned = is_new and job.is_writer
        with removed_unless_built(run) if cleaned else nullcontext():
            check_calibration(run, dataset)
            trainer = Trainer(run, dataset, report=report, job=job)
            if is_new:
                trainer.begin()
        trainer.report(trainer.describe())
        try:
            trainer.fit()
        except RunInterruptedError:
            trainer.report(f"Go on with: dlrm train run={run.folder}")
            raise
        report = trainer.report
        del trainer  # Frees the optimizer state before the evaluation.
        from dlrm.scoring import judge_of

        job.watch.enter(Phase.evaluate, "the evaluation at the end")
        calibrate_after_training(run, dataset, report, job)
        for split in [s for s in _JUDGED if dataset.schema.num_rows(s)][:1]:
            metrics = evaluate_split(run, dataset, split=split, job=job)
            if not job.is_writer:
                continue
            shown = judge_of(run).describe(metrics)
            report(f"\nBest checkpoint on the {split} split:\n{shown}")
            for line in slice_lines(run, split):
                report(line)
            report(f"\nreport  {run.evaluation(split) / 'report.html'}")
        report(f"run     {run.folder}")
        job.watch.enter(Phase.end)
