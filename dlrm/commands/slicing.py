"""The slices of an evaluation, from what a run and its dataset know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlrm.config.errors import ConfigError, DatasetError
from dlrm.config.slices import SliceSpec
from dlrm.config.task import TaskName
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.outside_ids import OutsideIds
from dlrm.evaluation.slices.choosing import check_columns
from dlrm.evaluation.slices.cold_start import unseen_of_input
from dlrm.evaluation.slices.evaluating import (
    Surroundings,
    slice_evaluation,
    surroundings_of_split,
    training_counts,
)
from dlrm.evaluation.slices.future import (
    future_of_rows,
    refuse_future,
    refuse_known_future,
)
from dlrm.run import Run
from dlrm.scoring import Scored


@dataclass(frozen=True, slots=True)
class Slicing:
    """What a run's evaluations are sliced by; tasks other than clicks by nothing."""

    run: Run
    specs: tuple[SliceSpec, ...] | None
    """None for the kept columns."""
    is_asked: bool
    """Whether they were typed for this evaluation, so that they must be there."""

    @classmethod
    def of_run(cls, run: Run, specs: Sequence[SliceSpec] | None) -> Slicing:
        """Return ``specs``, or what the run's ``evaluation.slices`` says.

        Raises:
            ConfigError: There are ``specs``, but the task is not of clicks.
        """
        config = run.config
        if specs is None:
            return cls(run, config.evaluation.specs(), is_asked=False)
        task = config.task.resolved(run.schema.label_kind)
        if specs and task is not TaskName.click:
            raise ConfigError(
                f"slices are for task.name=click, but the run's task is {task.value}. "
                f"Leave slices out."
            )
        return cls(run, tuple(specs), is_asked=True)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are typed, and that the run's dataset does not keep."""
        kept = self.run.schema.kept_columns
        named = [column for spec in self.specs or () for column in spec.columns]
        return tuple(dict.fromkeys(name for name in named if name not in kept))

    def check_split(self, dataset: Dataset) -> None:
        """Refuse, before anything is scored, slices and splits that cannot be.

        Raises:
            ConfigError: A typed slice's column was not kept, or with
                ``evaluation.forbid_future`` training rows are of the future.
        """
        config = self.run.config
        if self.is_asked and self.specs:
            check_columns(self.specs, config.data, dataset.schema.kept_columns)
        if config.evaluation.forbid_future:
            refuse_future(dataset, config.data)

    def of_split(
        self, scored: Scored, dataset: Dataset, split: str
    ) -> dict[str, Any] | None:
        """Return the content of slices.json for a split of the run's dataset."""
        if not self._is_of_clicks():
            return None
        known = surroundings_of_split(
            dataset,
            self.run.config.data,
            split=split,
            row_ids=scored.predictions.row_ids,
        )
        return self._of(scored, known)

    def of_input(
        self, scored: Scored, outside: OutsideIds, *, name: str, sampled: bool
    ) -> dict[str, Any] | None:
        """Return the content of slices.json for new rows; ``outside`` has kept rows.

        Raises:
            ConfigError: The rows lack a column that slices were typed of, or with
                ``evaluation.forbid_future`` training saw later rows, or may have.
        """
        if not self._is_of_clicks():
            return None
        if self.is_asked and self.specs:
            names = scored.side.column_names
            check_columns(self.specs, self.run.config.data, names)
        data = self.run.config.data
        dataset, future, counts = self._dataset_at_hand(), None, None
        if dataset is not None:
            future = future_of_rows(dataset, data, scored.side, name=name)
            counts = training_counts(dataset, data)
        if self.run.config.evaluation.forbid_future:
            refuse_known_future(future, data)
        known = Surroundings(
            sampled=sampled,
            unseen=unseen_of_input(outside, self.run.schema),
            future=future,
            training_counts=counts,
        )
        return self._of(scored, known)

    def _dataset_at_hand(self) -> Dataset | None:
        """Return the run's dataset where it is still there; none is prepared."""
        try:
            dataset = Dataset.open(self.run.manifest()["dataset"], verify=False)
        except (DatasetError, KeyError, TypeError):
            return None
        same = dataset.schema.fingerprint == self.run.schema.fingerprint
        return dataset if same else None

    def _of(self, scored: Scored, known: Surroundings) -> dict[str, Any]:
        return slice_evaluation(
            scored.predictions,
            scored.side,
            data=self.run.config.data,
            settings=self.run.config.evaluation,
            specs=self.specs,
            known=known,
        )

    def _is_of_clicks(self) -> bool:
        task = self.run.config.task.resolved(self.run.schema.label_kind)
        return task is TaskName.click
