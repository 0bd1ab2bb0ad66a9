"""What an evaluation writes: files, and a report that knows the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlrm.data.transforms.outside_ids import OutsideIds
    from dlrm.distributed.job import Job
    from dlrm.evaluation.report import ReportContext
    from dlrm.run import Run
    from dlrm.scoring import Scored


def write_results(
    run: Run,
    scored: Scored,
    *,
    name: str,
    checkpoint: Path,
    outside: OutsideIds | None = None,
    slices: dict[str, Any] | None = None,
    findings: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Judge scored rows, and write all that ``dlrm evaluate`` leaves of them."""
    from dlrm.evaluation.earlier import earlier_explanation
    from dlrm.evaluation.evaluation import write_evaluation
    from dlrm.scoring import judge_of, recalibration_of

    context = dataclasses.replace(
        report_context(run, name, checkpoint, findings),
        slices=slices,
        recalibration=recalibration_of(run, checkpoint, scored.predictions),
        importance=earlier_explanation(
            run.evaluation(name), "importance", checkpoint=checkpoint.name
        ),
        embeddings=earlier_explanation(
            run.evaluation(name), "embeddings", checkpoint=checkpoint.name
        ),
    )
    return write_evaluation(
        run.evaluation(name),
        judge=judge_of(run),
        predictions=scored.predictions,
        side=scored.side,
        group_column=_group_column(run, scored),
        context=context,
        outside_ids=None if outside is None else outside.record(),
    )


def write_large_results(
    run: Run,
    parts: Iterable[Scored],
    *,
    name: str,
    checkpoint: Path,
    job: Job,
    outside: OutsideIds | None = None,
    findings: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Evaluate rows that come in parts, for which all processes score.

    ``findings`` of an input grow while its parts come.
    """
    from dlrm.evaluation.large import write_large_evaluation

    metrics: dict[str, Any] = {}
    if job.is_writer:
        metrics = write_large_evaluation(
            run.evaluation(name),
            parts,
            group_column=run.config.data.group_column,
            context=report_context(run, name, checkpoint, findings),
            outside=outside,
        )
    else:
        for _ in parts:
            pass
    return job.by_writer(lambda: metrics)


def report_context(
    run: Run,
    name: str,
    checkpoint: Path,
    findings: list[dict[str, Any]] | None = None,
) -> ReportContext:
    """Gather what a report says; without ``findings`` those of the run's split."""
    from dlrm.data.contract.findings import load_findings
    from dlrm.evaluation.report import ReportContext
    from dlrm.metric_log import read_metrics
    from dlrm.run import PROVENANCE

    manifest = run.manifest()
    if findings is None:
        known = load_findings(run.folder)
        findings = [dataclasses.asdict(f) for f in known if f.rows in ("train", name)]
    return ReportContext(
        run=run.folder.name,
        split=name,
        model=run.config.model["name"],
        checkpoint=checkpoint.name,
        config=dataclasses.asdict(run.config),
        provenance={key: manifest[key] for key in PROVENANCE},
        history=read_metrics(run.folder),
        findings=findings,
    )


def _group_column(run: Run, scored: Scored) -> str | None:
    column = run.config.data.group_column
    return column if column in scored.side.column_names else None
