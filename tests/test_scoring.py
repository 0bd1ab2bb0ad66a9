"""A run's model over rows: each row once, in order, under the run's own transforms."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from dlrm.config.data import BadRows, SourceFormat, Split
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.loading.collate import encoded_batches
from dlrm.data.sources import frames, table
from dlrm.data.sources.delimited import delimited_pieces
from dlrm.run import Run, find_checkpoint, load_model, open_dataset
from dlrm.scoring import (
    concatenate_scored,
    input_config,
    judge_of,
    score_rows,
    score_split,
    score_table,
)
from tests.runs import CLICKS, ClicksRun


def best(run: Run) -> Path:
    return find_checkpoint(run, "best")


def test_a_split_is_scored_row_for_row_by_the_checkpoints_model(trained: Run):
    dataset = open_dataset(trained)
    scored = score_split(trained, dataset, split="valid", checkpoint=best(trained))
    rows = dataset.split("valid")
    batch = next(
        encoded_batches(
            [rows.gather(np.arange(rows.num_rows))], trained.schema, rows.num_rows
        )
    )
    model = load_model(trained, checkpoint=best(trained), device=torch.device("cpu"))
    with torch.no_grad():
        expected = model(batch).squeeze(1).numpy()
    found = scored.predictions
    assert found.row_ids.tolist() == list(range(rows.num_rows))
    np.testing.assert_allclose(found.logits, expected, rtol=0, atol=1e-6)
    assert np.array_equal(found.labels, batch.labels.numpy())
    assert scored.side.num_rows == rows.num_rows


@pytest.mark.parametrize("split", ["tset", ""])
def test_a_split_that_is_not_there_is_refused_with_those_that_are(
    trained: Run, split: str
):
    with pytest.raises(ConfigError) as refused:
        score_split(
            trained, open_dataset(trained), split=split, checkpoint=best(trained)
        )
    assert (
        f"split must name a split with rows, but '{split}' is none: the dataset has "
        f"train (3,200 rows), valid (400 rows), test (400 rows)"
    ) in str(refused.value)


def test_rows_are_numbered_over_all_parts_of_a_frame(
    clicks: ClicksRun, monkeypatch: pytest.MonkeyPatch
):
    frame = clicks.frame.head(50)
    whole = list(
        score_rows(clicks.run, frame, checkpoint=best(clicks.run), with_labels=True)
    )
    monkeypatch.setattr(frames, "_ROWS_PER_CHUNK", 7)
    parts = list(
        score_rows(clicks.run, frame, checkpoint=best(clicks.run), with_labels=True)
    )
    assert (len(whole), len(parts)) == (1, 8)
    joined = concatenate_scored(parts, judge_of(clicks.run))
    assert joined.predictions.row_ids.tolist() == list(range(50))
    # Matrix products of other sizes may round differently.
    np.testing.assert_allclose(
        joined.predictions.logits, whole[0].predictions.logits, rtol=1e-5, atol=1e-6
    )
    assert joined.predictions.labels.tolist() == frame["clicked"].astype(int).tolist()
    assert joined.side["impression_id"].to_pylist() == frame["impression_id"].tolist()


def test_rows_are_numbered_over_all_parts_of_a_file(
    clicks: ClicksRun, monkeypatch: pytest.MonkeyPatch
):
    small_blocks = partial(delimited_pieces, block_bytes=4096)
    monkeypatch.setattr(table, "delimited_pieces", small_blocks)
    parts = list(score_table(clicks.run, CLICKS, checkpoint=best(clicks.run)))
    assert len(parts) > 10
    joined = pa.concat_tables(parts)
    assert joined["row"].to_pylist() == list(range(2000))
    assert joined["impression_id"].to_pylist() == clicks.frame["impression_id"].tolist()


def test_a_part_whose_kept_column_is_empty_joins_the_others(
    clicks: ClicksRun, monkeypatch: pytest.MonkeyPatch
):
    frame = clicks.frame.head(20)
    shops = [None] * 10 + ["shop_1"] * 10
    frame["shop"] = shops
    monkeypatch.setattr(frames, "_ROWS_PER_CHUNK", 10)
    scored = concatenate_scored(
        list(
            score_rows(clicks.run, frame, checkpoint=best(clicks.run), with_labels=True)
        ),
        judge_of(clicks.run),
    )
    assert scored.side["shop"].to_pylist() == shops


def test_rows_to_evaluate_need_their_label(clicks: ClicksRun):
    frame = clicks.frame.drop(columns="clicked")
    scored = score_rows(
        clicks.run, frame, checkpoint=best(clicks.run), with_labels=True
    )
    with pytest.raises(DataError, match="must have the column 'clicked'"):
        list(scored)


def test_a_bad_row_is_an_error_whatever_the_runs_policy(clicks: ClicksRun):
    data = dataclasses.replace(clicks.run.config.data, bad_rows=BadRows.skip)
    config = dataclasses.replace(clicks.run.config, data=data)
    run = dataclasses.replace(clicks.run, config=config)
    frame = clicks.frame.head(5)
    frame.loc[3, "price"] = "cheap"
    with pytest.raises(DataError, match="'price' must be a finite number"):
        list(score_rows(run, frame, checkpoint=best(run), with_labels=False))


def test_the_runs_number_of_threads_holds_here_too(clicks: ClicksRun):
    trainer = dataclasses.replace(clicks.run.config.trainer, num_threads=3)
    config = dataclasses.replace(clicks.run.config, trainer=trainer)
    run = dataclasses.replace(clicks.run, config=config)
    list(score_table(run, clicks.frame.head(5), checkpoint=best(run)))
    assert torch.get_num_threads() == 3


def test_generated_logs_take_new_rows_as_a_plain_table(trained: Run):
    data = input_config(trained.config.data, "new.tsv.gz")
    assert (data.format, data.source) == (SourceFormat.table, "new.tsv.gz")
    assert data.table is not None
    assert data.table.separator == "tab"
    assert (data.split, data.files, data.synthetic) == (Split.source, {}, None)


def test_a_frame_has_no_source(trained: Run):
    data = input_config(trained.config.data, pd.DataFrame())
    assert (data.format, data.source) == (SourceFormat.table, None)
