"""Poolings and bag lengths in whole runs: trained, saved, evaluated, predicted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dlrm.commands.evaluate import evaluate
from dlrm.commands.train import train
from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema
from dlrm.config.table_options import Compression, CompressionMethod, TableOptions
from dlrm.embeddings.local import to_local
from dlrm.models import build_model, model_config
from dlrm.models.task import ClickTask
from dlrm.run import Run, find_checkpoint
from dlrm.scoring import score_table
from tests.builders import random_batch, small_schema
from tests.embeddings.oracle import CPU
from tests.embeddings.schemas import SGD
from tests.runs import tiny_overrides

QUOTIENTS = Compression(method=CompressionMethod.quotient_remainder)


def multi_hot_schema(pooling: Pooling, options: TableOptions) -> FeatureSchema:
    """Return two one-hot features and a bag under ``pooling``."""
    one = small_schema(pooling=pooling, num_embeddings=9)
    tables = {feature.table: options for feature in one.sparse}
    return dataclasses.replace(one, table_options=tables)


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    "options",
    [TableOptions(), TableOptions(padding_idx=0), TableOptions(compression=QUOTIENTS)],
    ids=["plain", "padding", "compression"],
)
def test_dlrm_learns_under_every_pooling(pooling: Pooling, options: TableOptions):
    torch.manual_seed(0)
    schema = multi_hot_schema(pooling, options)
    section = {
        "name": "dlrm", "embedding_dim": 4, "bottom_mlp": [5], "top_mlp": [16]
    }  # fmt: skip
    model = build_model(model_config(section), schema)
    to_local(model, optimizer=dataclasses.replace(SGD, lr=2.0), device=CPU)
    for name, table in model.state_dict().items():
        if "collections" in name:
            nn.init.normal_(table, std=0.5)
    batch, task = random_batch(schema, num_rows=32), ClickTask()
    dense = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        dense.zero_grad()
        total, weight = task.loss_sum(model(batch), batch)
        losses.append(float(total.detach()))
        (total / weight).backward()
        dense.step()
    assert losses[-1] < 0.7 * losses[0]


def test_two_poolings_of_one_table_go_through_a_whole_run(
    tmp_path: Path, prepared: Path
):
    settings = (
        "data.sparse_features.tags.pooling=attention",
        "data.sparse_features.interests.pooling=max",
        "trainer.num_epochs=2",
        "trainer.max_steps=10",
    )
    overrides = tiny_overrides(tmp_path, "run_name=r", *settings, prepared=prepared)
    run = train(*overrides, report=lambda line: None)
    assert (find_checkpoint(run, "best") / "state.json").is_file()
    assert (run.folder / "evaluation" / "test" / "metrics.json").is_file()


@pytest.fixture(scope="module")
def cut_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, pd.DataFrame]:
    """Return a run on bags of at most two tags, and rows with up to five."""
    folder = tmp_path_factory.mktemp("cut")
    random = np.random.default_rng(0)
    tags = ["|".join(random.choice(list("abcdef"), 5)[: n % 6]) for n in range(400)]
    clicked = [int("a" in text[:3]) for text in tags]
    frame = pd.DataFrame({"clicked": clicked, "tags": tags})
    frame.to_csv(folder / "rows.csv", index=False)
    feature = "{multi_hot: true, delimiter: pipe, max_length: 2, pooling: mean}"
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "conf" / "data" / "cut.yaml").write_text(
        "name: cut\nformat: table\nlabel: clicked\ntable: {separator: comma}\n"
        f"source: {folder / 'rows.csv'}\nsplit: random\n"
        f"sparse_features:\n  tags: {feature}\n",
        encoding="utf-8",
    )
    settings = [text for text in tiny_overrides(folder) if "data=" not in text]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = [text for text in settings if "data.synthetic" not in text]
        run = train(
            "data=cut", *settings, "model.interaction=cat", report=lambda line: None
        )
    return run, frame


def logits(run: Run, rows: pd.DataFrame) -> np.ndarray:
    (part,) = score_table(run, rows, checkpoint=find_checkpoint(run, "best"))
    return part["logit"].to_numpy()


def first_two(tags: pd.Series) -> pd.Series:
    return tags.map(lambda text: "|".join(text.split("|")[:2]))


def test_a_prediction_reads_the_first_ids_up_to_max_length_as_training_did(cut_run):
    run, frame = cut_run
    rows = frame[["tags"]]
    cut = rows.assign(tags=first_two(rows["tags"]))
    assert (cut["tags"] != rows["tags"]).sum() > 100
    assert np.array_equal(logits(run, rows), logits(run, cut))


def test_an_evaluation_of_new_rows_reads_them_so_too(cut_run, tmp_path: Path):
    run, frame = cut_run
    metrics = []
    for name, tags in (("long", frame["tags"]), ("cut", first_two(frame["tags"]))):
        rows = frame.assign(tags=tags)
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        result = evaluate(
            run.folder, input=tmp_path / f"{name}.csv", report=lambda line: None
        )
        metrics.append(result)
    assert metrics[0] == metrics[1]
