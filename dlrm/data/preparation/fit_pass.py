"""Fit all transforms: every column a task, large vocabularies several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.config.data import DataConfig
from dlrm.config.errors import DataError
from dlrm.config.features import Encoding, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.progress import Progress
from dlrm.config.schema import FeatureSchema
from dlrm.config.tables import features_by_table
from dlrm.data.preparation.blocks import BlockStore, Task
from dlrm.data.preparation.counting import CountTask, CutTask
from dlrm.data.preparation.fit_tasks import (
    BoundariesTask,
    DistinctTask,
    LabelsTask,
    MomentsTask,
)
from dlrm.data.preparation.merging import MergeTask
from dlrm.data.preparation.spill import SpilledBlock, column_of
from dlrm.data.preparation.workers import Workers
from dlrm.data.transforms.dense_columns import Moments
from dlrm.data.transforms.fitting import fit_dense, fitted_schema
from dlrm.data.transforms.vocabulary import LABEL_CLASSES


@dataclass(frozen=True, slots=True)
class Fit:
    """What was fitted, and where the rest of it lies."""

    schema: FeatureSchema
    num_values: dict[str, int | None]
    """Distinct training values by feature; None where nothing counted them all."""
    merged: dict[str, str]
    """By table with a vocabulary: the name of the merged counts."""


@dataclass(frozen=True, slots=True)
class FitPass:
    """One pass over the blocks for every column."""

    data: DataConfig
    store: BlockStore
    blocks: tuple[SpilledBlock, ...]
    codes: Path
    made: Path
    memory_bytes: int
    """What one task may count in."""

    def run(self, workers: Workers) -> Fit:
        """Fit everything.

        Raises:
            DataError: Labels, classes or a dense feature's values teach nothing.
        """
        counts = self._counts(workers)
        tasks: list[Task] = [task for parts in counts.values() for task in parts]
        # The largest table first: what comes last should be short.
        tasks.sort(key=lambda task: -self._num_texts(task))
        tasks += self._column_tasks()
        found = _results(workers, tasks, "Fitting")
        merges = [self._merge(table, parts) for table, parts in counts.items()]
        merged = _results(workers, merges, "Merging")
        if self.data.label_kind is LabelKind.click:
            check_labels(self.data, set(found["labels"]["labels"]))
        return Fit(
            schema=self._schema(found, merged),
            num_values=self._num_values(found, merged),
            merged={table: f"merged-{table}" for table in counts},
        )

    def _counts(self, workers: Workers) -> dict[str, list[CountTask]]:
        """Return the counting tasks of each table with a vocabulary."""
        tables = self._vocabularies()
        tasks = [
            CutTask(self.store, f"cut-{t}", features, self.blocks, self.memory_bytes)
            for t, features in tables.items()
        ]
        cuts = list(workers.results(tasks))
        return {
            table: [
                CountTask(
                    self.store,
                    f"counted-{table}-{low:03d}-{high:03d}",
                    features,
                    self.blocks,
                    self.codes,
                    (low, high),
                    self._options(table).min_frequency,
                )
                for low, high in cut["parts"]
            ]
            for (table, features), cut in zip(tables.items(), cuts, strict=True)
        }

    def _merge(self, table: str, parts: Sequence[CountTask]) -> MergeTask:
        return MergeTask(
            self.store,
            f"merged-{table}",
            table,
            parts[0].features,
            tuple(part.name for part in parts),
            self._options(table).num_embeddings,
            self.made,
        )

    def _column_tasks(self) -> list[Task]:
        data = self.data
        common: dict[str, Any] = {
            "store": self.store, "blocks": self.blocks, "codes": self.codes,
        }  # fmt: skip
        tasks: list[Task] = []
        for name, dense in data.dense_features.items():
            task = f"moments-{name}"
            tasks.append(MomentsTask(name=task, feature=name, options=dense, **common))
        tables = features_by_table(data.sparse_features)
        for table, features in tables.items():
            if next(iter(features.values())).encoding is Encoding.bucketize:
                task = f"boundaries-{table}"
                tasks.append(BoundariesTask(name=task, features=features, **common))
        for name, feature in data.sparse_features.items():
            sharing = tables[feature.table or name]
            counted = feature.encoding is Encoding.vocabulary and len(sharing) == 1
            if feature.encoding is not Encoding.bucketize and not counted:
                task = f"distinct-{name}"
                tasks.append(DistinctTask(name=task, feature=name, **common))
        if data.label_kind is LabelKind.click:
            tasks.append(LabelsTask(name="labels", **common))
        return tasks

    def _vocabularies(self) -> dict[str, tuple[str, ...]]:
        """Return the features of each table with a vocabulary, and of classes."""
        found = {
            table: tuple(features)
            for table, features in features_by_table(self.data.sparse_features).items()
            if next(iter(features.values())).encoding is Encoding.vocabulary
        }
        if self.data.label_kind is not LabelKind.click:
            found[LABEL_CLASSES] = (LABEL_CLASSES,)
        return found

    def _options(self, table: str) -> SparseFeature:
        if table == LABEL_CLASSES:
            return SparseFeature(min_frequency=1)
        features = features_by_table(self.data.sparse_features)[table]
        return next(iter(features.values()))

    def _num_texts(self, task: Task) -> int:
        assert isinstance(task, CountTask)
        columns = [column_of(feature) for feature in task.features]
        low, high = task.buckets
        whole = sum(b.num_texts(name) for b in self.blocks for name in columns)
        return whole * (high - low)

    def _schema(
        self, found: Mapping[str, dict[str, Any]], merged: Mapping[str, dict[str, Any]]
    ) -> FeatureSchema:
        data = self.data
        return fitted_schema(
            data,
            dense=[
                fit_dense(Moments(**found[f"moments-{name}"]), name, feature)
                for name, feature in data.dense_features.items()
            ],
            num_known={
                name.removeprefix("merged-"): result["num_known"]
                for name, result in merged.items()
            },
            boundaries={
                name.removeprefix("boundaries-"): tuple(result["boundaries"])
                for name, result in found.items()
                if name.startswith("boundaries-")
            },
        )

    def _num_values(
        self, found: Mapping[str, dict[str, Any]], merged: Mapping[str, dict[str, Any]]
    ) -> dict[str, int | None]:
        sizes: dict[str, int | None] = {}
        for name, feature in self.data.sparse_features.items():
            if f"distinct-{name}" in found:
                sizes[name] = found[f"distinct-{name}"]["num_values"]
            elif feature.encoding is Encoding.vocabulary:
                sizes[name] = merged[f"merged-{feature.table or name}"]["num_values"]
        return sizes


def check_labels(data: DataConfig, labels: set[float]) -> None:
    """Refuse training rows that say nothing; ``labels`` are those with weight.

    Raises:
        DataError: All labels are alike, or no row has weight.
    """
    weights = data.weight_column
    if not labels:
        raise DataError(
            f"Some training rows must have a weight above 0, but column "
            f"{weights!r} (data.weight_column) is 0 in all of them. Check "
            f"data.weight_column, or leave it out."
        )
    if len(labels) == 1 and not (data.all_clicks and labels == {1.0}):
        counted = "all of them" if weights is None else "all that have weight"
        raise DataError(
            f"The training rows must hold clicks and non-clicks, but column "
            f"{data.label!r} (data.label) is {labels.pop():.0f} in {counted}. "
            f"Check data.label, or split the rows another way. A log of clicks "
            f"alone, for task.name=retrieval, needs data.all_clicks=true."
        )


def _results(
    workers: Workers, tasks: Iterable[Task], label: str
) -> dict[str, dict[str, Any]]:
    """Do tasks, and return their results by name."""
    waiting = list(tasks)
    found = {}
    with Progress(len(waiting), label, "columns") as progress:
        for task, result in zip(waiting, workers.results(waiting), strict=True):
            found[task.name] = result
            progress.update()
    return found
