"""Permutation importance of a run's features, from its folder to the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrm.data.storage.feature_values import feature_places
from dlrm.explanation.costs import feature_costs
from dlrm.explanation.importance import measure_importance
from dlrm.explanation.sample import draw_sample
from dlrm.explanation.scorer import Scorer, check_clicks
from dlrm.run import Run, open_dataset


def importance_of_run(
    run: Run,
    checkpoint: Path,
    *,
    split: str,
    num_rows: int,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Return the content of ``importance.json``.

    That is ``run``, ``checkpoint``, ``split`` and ``clustered_by``, the group column or
    null, and what ``measure_importance`` returns.

    Raises:
        UserError: The run's task, data or split does not fit.
    """
    check_clicks(run)
    sample = draw_sample(
        run,
        open_dataset(run, split=split),
        split,
        checkpoint=checkpoint,
        num_rows=num_rows,
        seed=seed,
    )
    places = feature_places(run.schema)
    measured = measure_importance(
        Scorer.load(run, checkpoint),
        sample,
        places,
        feature_costs(run, places, sample.rows),
        repeats=repeats,
        seed=seed,
    )
    return {
        "run": run.folder.name,
        "checkpoint": checkpoint.name,
        "split": split,
        "clustered_by": sample.group_column,
        **measured,
    }
