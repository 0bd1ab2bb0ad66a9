"""fastText's model against the formula, and a run of it from raw lines to classes.

Shape suffixes: B = batch, D = width, T = classes.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from dlrm.commands.evaluate import evaluate
from dlrm.commands.predict import predict
from dlrm.commands.train import train
from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.config.labels import LabelKind
from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from dlrm.models import build_model, model_config
from tests.builders import random_batch, small_schema

NUM_CLASSES = 3
SMALL = (
    "data=fasttext",
    "model=fasttext",
    "model.embedding_dim=8",
    "data.sparse_features.text.text.word_ngrams=2",
    "data.sparse_features.text.text.num_buckets=50",
    "task.top_k=[2]",
    "optimizer.sparse={name: adagrad, lr: 0.3}",
    "optimizer.dense={name: Adagrad, lr: 0.3}",
    "optimizer.schedule.warmup_steps=0",
    "trainer.global_batch_size=8",
    "trainer.num_threads=1",
    "logger.tensorboard=false",
)


def schema_of_classes(**options):
    schema = small_schema(num_dense=1, widths=(4, 4), pooling=Pooling.mean, **options)
    return dataclasses.replace(
        schema, label_kind=LabelKind.multiclass, num_classes=NUM_CLASSES
    )


def build(schema):
    config = model_config({"name": "fasttext", "embedding_dim": 4})
    model = build_model(config, schema)
    initial = InitialValues(
        seed=0,
        default=config.embedding_init,
        row_keys=lambda table: np.arange(9, dtype=np.uint64),
    )
    device = torch.device("cpu")
    to_local(model, optimizer=SparseOptimizer(), device=device, initial=initial)
    return model


def test_logits_are_a_matrix_times_the_dense_columns_and_the_bags_means():
    clicks = small_schema(num_dense=1, widths=(4, 4), pooling=Pooling.mean)
    batch = random_batch(clicks, num_rows=6)
    model = build(schema_of_classes())
    with torch.no_grad():
        model.output.weight.normal_()
        logits = model(batch)
    tables = {
        name.split(".")[-2]: value.double()
        for name, value in model.state_dict().items()
        if "embedding_bags" in name
    }
    matrix = model.output.weight.detach().double()
    bags = batch.sparse["pooled"].to_dict()
    for row in range(6):
        parts = [batch.dense[row].double()]
        for name in ("s0", "s1"):
            offsets = bags[name].offsets()
            ids = bags[name].values()[offsets[row] : offsets[row + 1]].long()
            vectors = tables[name][ids]
            parts.append(vectors.mean(0) if len(ids) else torch.zeros(4).double())
        expected = matrix @ torch.cat(parts)
        torch.testing.assert_close(logits[row], expected.float())


def test_it_starts_from_equally_likely_classes_and_small_embeddings():
    model = build(schema_of_classes())
    assert (model.output.weight == 0).all()
    assert model.output.bias is None
    table = model.state_dict()["embeddings.collections.pooled.embedding_bags.s0.weight"]
    assert table.abs().max() <= 1 / 4
    assert table.abs().max() > 1 / 8


def test_a_model_with_one_logit_is_refused_for_classes():
    config = model_config({"name": "dlrm", "embedding_dim": 4})
    with pytest.raises(ConfigError, match=r"fasttext, where .* but dlrm has one"):
        build_model(config, schema_of_classes())


def write_lines(path, num_rows, seed):
    """Write rows whose words w<c> tell their classes c; z is never told."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(num_rows):
        classes = random.choice(["a", "b", "c"], random.integers(1, 3), replace=False)
        words = [f"w{c}" for c in classes] + [f"noise{random.integers(5)}"]
        labels = [f"__label__{c}" for c in classes]
        lines.append(" ".join([*labels, *random.permutation(words)]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fasttext")
    write_lines(folder / "lines.txt", 300, seed=0)
    run = train(
        *SMALL,
        f"data.source={folder / 'lines.txt'}",
        "trainer.num_epochs=3",
        f"output={folder / 'outputs'}",
        f"data.prepared={folder / 'prepared'}",
        "run_name=run",
        report=lambda line: None,
    )
    return run


def test_a_run_learns_the_classes_and_writes_what_it_predicts(trained):
    metrics = json.loads((trained.evaluation("test") / "metrics.json").read_text())
    assert metrics["precision_at_1"] == 1.0
    assert metrics["recall_at_2"] > 0.95
    assert "accuracy" not in metrics
    assert "auc" not in metrics
    table = pq.read_table(trained.evaluation("test") / "predictions.parquet")
    assert table.column_names[:6] == [
        "row", "labels", "predicted", "probabilities", "loss", "weight",
    ]  # fmt: skip
    hits = [
        row["predicted"][0] in row["labels"]
        for row in table.select(["labels", "predicted"]).to_pylist()
    ]
    assert np.mean(hits) == metrics["precision_at_1"]
    assert "Precision at 2" in (trained.evaluation("test") / "report.html").read_text(
        encoding="utf-8"
    )


def test_training_logs_the_validation_metrics_of_classes(trained):
    lines = (trained.folder / "metrics.jsonl").read_text().splitlines()
    valid = [json.loads(line) for line in lines if '"valid"' in line]
    assert len(valid) == 3
    assert valid[-1]["precision_at_1"] > 0.9


def test_new_lines_are_scored_row_for_row(trained, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("wa noise1\n\nwc unheard of\n")
    frame = predict(trained.folder, path)
    assert frame["row"].tolist() == [0, 1, 2]
    assert frame["class_1"].tolist()[::2] == ["a", "c"]
    assert list(frame.columns) == [
        "row", "class_1", "probability_1", "class_2", "probability_2",
    ]  # fmt: skip
    same = predict(trained.folder, pd.DataFrame({"text": ["wa noise1", "", "wc x"]}))
    assert same["class_1"].tolist()[::2] == ["a", "c"]


def test_classes_that_training_never_saw_are_misses(trained, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text(
        "__label__a wa noise1\n__label__never wb\n__label__b __label__z wb\n"
    )
    metrics = evaluate(trained.folder, input=path, report=lambda line: None)
    assert metrics["num_labels"] == 4
    assert metrics["num_unknown_labels"] == 2
    assert metrics["precision_at_1"] == pytest.approx(2 / 3)
    assert metrics["recall_at_1"] == pytest.approx(2 / 4)


def test_one_class_a_row_has_an_accuracy(tmp_path):
    random = np.random.default_rng(0)
    classes = random.choice([3, 5, 8], 200)
    frame = pd.DataFrame({"label": classes, "text": [f"Is it W{c}?" for c in classes]})
    run = train(
        *(text for text in SMALL if not text.startswith("task.")),
        "data.format=table",
        "data.label_kind=multiclass",
        "data.sparse_features.text.text.lowercase=true",
        "data.sparse_features.text.text.split_punctuation=true",
        "task.loss=one_vs_all",
        "trainer.num_epochs=5",
        f"output={tmp_path}",
        f"data.prepared={tmp_path}",
        "run_name=run",
        frame=frame,
        report=lambda line: None,
    )
    metrics = json.loads((run.evaluation("test") / "metrics.json").read_text())
    assert metrics["accuracy"] == metrics["precision_at_1"] == 1.0
    table = pq.read_table(run.evaluation("test") / "predictions.parquet")
    assert set(table["predicted"].to_pylist()[0]) == {"3", "5", "8"}
