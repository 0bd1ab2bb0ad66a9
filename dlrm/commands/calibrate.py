"""``dlrm calibrate``: fit what makes a trained model's probabilities right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands import launch
from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.commands.code import check_code, import_code
from dlrm.config.calibration import CalibrationMethod
from dlrm.config.errors import ConfigError, RunError
from dlrm.config.keys import did_you_mean
from dlrm.config.labels import LabelKind
from dlrm.config.progress import report_line
from dlrm.config.task import TaskName

if TYPE_CHECKING:
    from dlrm.data.storage.dataset import Dataset
    from dlrm.distributed.job import Job
    from dlrm.evaluation.calibrated import Calibration
    from dlrm.run import Run

_METHODS = [method.value for method in CalibrationMethod]
_NO_METHOD = CalibrationMethod.none.value

HELP = CommandHelp(
    name="calibrate",
    summary="Make a trained model's probabilities right on average",
    usage="run=DIR method=NAME [split=valid] [checkpoint=NAME]",
    description=(
        "Fits a map from the model's logits to true ones on a split that the model was "
        "not trained on, and writes it to DIR/calibration.json. From then on evaluate "
        "and predict apply it. method=none removes it."
    ),
    keys={
        "run": "the run directory that dlrm train printed",
        "method": "platt, isotonic, temperature, beta or none",
        "split": "valid (the default) or test",
        "checkpoint": "best (the default), last, or a name such as step_000000500",
        "processes": "how many processes of this machine share the work (1)",
    },
    examples=(
        "dlrm calibrate run=outputs/20260131-101500-clicks-dlrm method=platt",
        "dlrm calibrate run=outputs/20260131-101500-clicks-dlrm method=none",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    run = required(arguments, "run", HELP.examples[0])
    method = required(arguments, "method", HELP.examples[0])
    if arguments.overrides:
        raise ConfigError(
            f"dlrm calibrate uses the run's own settings, but got "
            f"{arguments.overrides[0]}. Its keys are {', '.join(HELP.keys)}."
        )
    values = arguments.values
    ended = launch.run_on(
        Path(run), ["calibrate", *argv], processes=values.get("processes")
    )
    if ended is not None:
        return ended
    calibrate(
        run,
        method=method,
        split=values.get("split", "valid"),
        checkpoint=values.get("checkpoint", "best"),
        code=arguments.code,
    )
    return 0


def calibrate(
    run: str | Path,
    *,
    method: str,
    split: str = "valid",
    checkpoint: str = "best",
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = report_line,
) -> dict[str, Any] | None:
    """Fit a run's recalibrator and return the content of its calibration.json.

    ``method`` is ``platt``, ``isotonic``, ``temperature`` or ``beta``; ``none`` takes
    away what is there and returns None.

    Raises:
        UserError: The run, the split or the method does not fit; see the message.
    """
    if method not in _METHODS:
        raise ConfigError(
            f"method must be one of {', '.join(_METHODS)}, but it is '{method}'."
            f"{did_you_mean(method, _METHODS)}"
        )
    if split not in ("valid", "test"):
        raise ConfigError(
            f"split must be valid or test, rows that the model was not trained on, but "
            f"it is '{split}'."
        )
    import_code([Path(file) for file in code])
    check_code(Path(run), given=bool(code))

    from dlrm.distributed.device import choose_device
    from dlrm.distributed.job import joined
    from dlrm.run import open_dataset, open_run

    opened = open_run(Path(run))
    config = opened.config
    _check_task(opened)
    with joined(choose_device(config.trainer.device), watch=config.watch) as job:
        if method == _NO_METHOD:
            job.by_writer(lambda: _remove(opened, report))
            return None
        dataset = job.by_writer(lambda: open_dataset(opened, split=split))
        found = calibrate_run(
            opened,
            dataset,
            method=method,
            split=split,
            checkpoint=checkpoint,
            report=report,
            job=job,
        )
    return found.record()


def calibrate_run(
    run: Run,
    dataset: Dataset,
    *,
    method: str,
    split: str = "valid",
    checkpoint: str = "best",
    report: Callable[[str], None],
    job: Job,
) -> Calibration:
    """Fit, write and report a recalibrator with all processes of ``job``."""
    from dlrm.evaluation.calibrated import fit_calibration
    from dlrm.run import find_checkpoint
    from dlrm.scoring import score_split

    folder = job.by_writer(lambda: find_checkpoint(run, checkpoint))
    scored = score_split(
        run, dataset, split=split, checkpoint=folder, job=job, recalibrated=False
    )

    def fit() -> Calibration:
        assert scored is not None, "the first process has what all have scored"
        rows, data = scored.predictions, run.config.data
        found = fit_calibration(method, rows, data, checkpoint=folder.name, split=split)
        found.save(run.folder)
        report(_describe(found, rows))
        report(f"map     {run.folder / _file()}")
        return found

    return job.by_writer(fit)


def check_calibration(run: Run, dataset: Dataset) -> None:
    """Refuse before training what could not be fitted after it.

    Raises:
        ConfigError: ``calibration.method`` is set, but no rows are there to fit on.
    """
    method = run.config.calibration.method
    if method is not CalibrationMethod.none and not dataset.schema.num_rows("valid"):
        raise ConfigError(
            f"calibration.method={method.value} is fitted on the validation split, but "
            f"the data has none. Leave it out, or give data.split_fractions a second "
            f"share."
        )


def calibrate_after_training(
    run: Run, dataset: Dataset, report: Callable[[str], None], job: Job
) -> None:
    """Fit what ``calibration.method`` says, on the best checkpoint.

    Where it is ``none``, a recalibrator that ``dlrm calibrate`` has fitted on an
    earlier checkpoint of the run is fitted anew, on the same split by the same method.

    Raises:
        UserError: It cannot be fitted; see the message.
    """
    from dlrm.evaluation.calibrated import Calibration
    from dlrm.run import find_checkpoint

    method, split = run.config.calibration.method.value, "valid"
    if method == _NO_METHOD:
        earlier = job.by_writer(lambda: Calibration.load(run.folder))
        best = job.by_writer(lambda: find_checkpoint(run, "best"))
        if earlier is None or earlier.checkpoint == best.name:
            return
        method, split = earlier.method, earlier.split
    calibrate_run(run, dataset, method=method, split=split, report=report, job=job)


def _check_task(run: Run) -> None:
    task = run.config.task.resolved(run.schema.label_kind)
    if run.schema.label_kind is not LabelKind.click or task is not TaskName.click:
        raise RunError(
            f"A recalibrator is fitted to click probabilities, but the task of "
            f"{run.folder} is {task.value}."
        )


def _file() -> str:
    from dlrm.evaluation.calibrated import CALIBRATION_FILE

    return CALIBRATION_FILE


def _remove(run: Run, report: Callable[[str], None]) -> None:
    path = run.folder / _file()
    there = path.is_file()
    path.unlink(missing_ok=True)
    report(f"{'removed' if there else 'not there'}  {path}")


def _describe(found: Calibration, rows: Any) -> str:
    """Return what the map does to the rows it was fitted on, as a small table."""
    from dlrm.evaluation.calibrated import reliability_record
    from dlrm.evaluation.terminal import format_value

    records = [
        reliability_record(rows.labels, logits, rows.weights)
        for logits in (
            rows.logits if rows.raw_logits is None else rows.raw_logits,
            found.recalibrator.apply(rows.logits),
        )
    ]
    lines = [
        f"{found.method} on the {found.split} split, {found.num_examples:,} rows, "
        f"{found.num_positives:,} clicks, {found.checkpoint}",
        f"order   {', then '.join(found.order)}",
        f"{'':<20}{'raw':>12}{'calibrated':>12}",
    ]
    for name, title in (
        ("calibration", "Calibration"),
        ("ece", "ECE"),
        ("log_loss", "Log loss"),
    ):
        values = "".join(f"{format_value(record[name]):>12}" for record in records)
        lines.append(f"{title:<20}{values}")
    return "\n".join(lines)
