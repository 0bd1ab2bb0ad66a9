"""``summary.json``: what ``prepare`` saw, for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from dlrm.config.errors import DatasetError
from dlrm.config.schema import FeatureSchema, SplitSummary
from dlrm.config.strangers import parse_json

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSummary:
    """One sparse feature."""

    encoding: str
    table: str
    num_embeddings: int
    num_values: int | None
    """Distinct training values; None where nothing counted them all."""
    outside: dict[str, float]
    """By split: share of ids outside the vocabulary or the table."""
    num_outside: dict[str, int] = field(default_factory=dict)
    """By split: how many they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSummary:
    """Sizes, click rates, and what the vocabularies do not know."""

    name: str
    splits: dict[str, SplitSummary]
    num_quarantined: int
    num_dense: int
    num_classes: int = 0
    """Where labels are classes; there is no click rate then."""
    features: dict[str, FeatureSummary] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``summary.json``."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> PrepareSummary:
        """Read ``summary.json``.

        Raises:
            DatasetError: It is missing or damaged.
        """
        try:
            content = parse_json((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
            splits, features = content.pop("splits"), content.pop("features")
            return cls(
                splits={name: SplitSummary(**entry) for name, entry in splits.items()},
                features={
                    name: FeatureSummary(**entry) for name, entry in features.items()
                },
                **content,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DatasetError(
                f"{folder} must hold a readable {SUMMARY_FILE}, but it does not "
                f"({error}). Delete the folder and run dlrm prepare again."
            ) from error


def summarize(
    schema: FeatureSchema,
    *,
    num_values: dict[str, int | None],
    outside: dict[str, dict[str, float]],
    num_outside: dict[str, dict[str, int]],
    num_quarantined: int,
) -> PrepareSummary:
    """Gather a summary; ``outside`` and ``num_outside`` are by feature and split."""
    return PrepareSummary(
        name=schema.name,
        splits=dict(schema.splits),
        num_quarantined=num_quarantined,
        num_dense=len(schema.dense),
        num_classes=schema.num_classes,
        features={
            fitted.name: FeatureSummary(
                encoding=fitted.feature.encoding.value,
                table=fitted.table,
                num_embeddings=fitted.num_embeddings,
                num_values=num_values.get(fitted.name),
                outside=outside.get(fitted.name, {}),
                num_outside=num_outside.get(fitted.name, {}),
            )
            for fitted in schema.sparse
        },
    )


def describe_dataset(folder: Path) -> str:
    """Return the summary of a prepared dataset as a few lines of text.

    Raises:
        DatasetError: The folder holds no readable summary.
    """
    summary = PrepareSummary.load(folder)
    classes = f", {summary.num_classes:,} classes" if summary.num_classes else ""
    lines = [f"{summary.name}: {summary.num_dense} dense features{classes}", ""]
    lines += _aligned(_split_rows(summary))
    if summary.features:
        header = ["feature", "encoding", "table", "table rows", "values"]
        rows = [[*header, *(f"outside {name}" for name in summary.splits)]]
        rows += [
            _feature_row(name, feature, summary)
            for name, feature in summary.features.items()
        ]
        lines += ["", *_aligned(rows)]
    if summary.num_quarantined:
        lines += ["", f"{summary.num_quarantined:,} bad rows: see quarantine.parquet"]
    return "\n".join(lines)


def _split_rows(summary: PrepareSummary) -> list[list[str]]:
    rows = [["split", "rows", "click rate"]]
    rows += [
        [name, f"{split.num_rows:,}", f"{split.prior:.4f}"]
        for name, split in summary.splits.items()
    ]
    return [row[:2] for row in rows] if summary.num_classes else rows


def _feature_row(
    name: str, feature: FeatureSummary, summary: PrepareSummary
) -> list[str]:
    values = "" if feature.num_values is None else f"{feature.num_values:,}"
    size = f"{feature.num_embeddings:,}"
    outside = [_outside(feature, split) for split in summary.splits]
    return [name, feature.encoding, feature.table, size, values, *outside]


def _outside(feature: FeatureSummary, split: str) -> str:
    if split not in feature.outside:
        return ""
    share = f"{feature.outside[split]:.2%}"
    count = feature.num_outside.get(split, 0)
    return f"{share} ({count:,})" if count else share


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
