"""One mutation of a clean log for each kind of finding that a dataset can have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd


def some(frame: pd.DataFrame, share: float, part: str = "test") -> np.ndarray:
    """Pick a share of a split's rows, evenly."""
    rows = np.flatnonzero(frame["part"] == part)
    return rows[:: round(1 / share)]


def out_of_range(frame: pd.DataFrame) -> None:
    frame.loc[some(frame, 0.1), "price"] *= 1e6


def new_categories(frame: pd.DataFrame) -> None:
    rows = some(frame, 1 / 3)
    frame.loc[rows, "shop"] = [f"new{row}" for row in rows]


def dense_drift(frame: pd.DataFrame) -> None:
    known = frame["price"][frame["part"] == "train"].sort_values()
    high = known[int(len(known) * 0.6) : -1].to_numpy()
    rows = frame["part"] == "test"
    frame.loc[rows, "price"] = np.resize(high, rows.sum())


def bucket_drift(frame: pd.DataFrame) -> None:
    rows = frame["part"] == "test"
    frame.loc[rows, "hour"] = 1 + frame.loc[rows, "hour"] / 4


def categorical_drift(frame: pd.DataFrame) -> None:
    frame.loc[some(frame, 1 / 2), "shop"] = "s3"


def label_shift(frame: pd.DataFrame) -> None:
    clicks = np.flatnonzero((frame["part"] == "test") & (frame["label"] == 1))
    frame.loc[clicks[::2], "label"] = 0


def missing_number(frame: pd.DataFrame) -> None:
    frame.loc[some(frame, 1 / 3), "age"] = np.nan


def missing_category(frame: pd.DataFrame) -> None:
    frame.loc[some(frame, 1 / 3), "shop"] = None


def duplicate_rows(frame: pd.DataFrame) -> None:
    rows = some(frame, 0.1)
    for column in ("label", "price", "age", "hour", "shop", "item", "tags"):
        frame.loc[rows, column] = frame[column].iloc[: len(rows)].to_numpy()


def duplicate_ids(frame: pd.DataFrame) -> None:
    frame.loc[some(frame, 0.02), "row"] = frame["row"].iloc[5]


def constant_number(frame: pd.DataFrame) -> None:
    frame["price"] = 9.99


def constant_category(frame: pd.DataFrame) -> None:
    frame["shop"] = "the only one"


def label_as_number(frame: pd.DataFrame) -> None:
    frame["price"] = frame["label"] * 3.0 + 1


def label_upside_down(frame: pd.DataFrame) -> None:
    frame["age"] = 1.0 - frame["label"]


def label_as_category(frame: pd.DataFrame) -> None:
    frame["shop"] = np.where(frame["label"] == 1, "yes", "no")


def label_as_gaps(frame: pd.DataFrame) -> None:
    frame["age"] = frame["age"].fillna(40.0).where(frame["label"] == 1)


def time_overlap(frame: pd.DataFrame) -> None:
    frame.loc[some(frame, 0.05), "when"] = frame["when"].iloc[7]


MUTATIONS: tuple[tuple[str, Callable[[pd.DataFrame], None]], ...] = (
    ("out_of_range", out_of_range),
    ("new_categories", new_categories),
    ("dense_drift", dense_drift),
    ("dense_drift", bucket_drift),
    ("categorical_drift", categorical_drift),
    ("label_shift", label_shift),
    ("missing_share", missing_number),
    ("missing_share", missing_category),
    ("duplicate_rows", duplicate_rows),
    ("duplicate_ids", duplicate_ids),
    ("constant_feature", constant_number),
    ("constant_feature", constant_category),
    ("label_leak", label_as_number),
    ("label_leak", label_upside_down),
    ("label_leak", label_as_category),
    ("label_leak", label_as_gaps),
    ("time_overlap", time_overlap),
)
"""The kind, and what raises it and nothing else."""
