"""The same run on a GPU and on the CPU: make test-gpu."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dlrm.config.optimizer import SparseOptimizerName
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.metric_log import read_metrics
from dlrm.run import create_run
from dlrm.trainer import Trainer
from tests.runs import tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def losses(tmp_path: Path, *settings: str, device: str, sparse: str) -> list[float]:
    """Return the logged losses of a tiny run without dropout."""
    config = tiny_config(
        tmp_path, f"trainer.device={device}", f"run_name={device}", "model.dropout=0",
        f"optimizer.sparse.name={sparse}", "optimizer.sparse.lr=0.05",
        "trainer.num_epochs=2", "trainer.log_every=1", *settings,
    )  # fmt: skip
    folder = prepare_dataset(config.data)
    run = create_run(config, dataset=folder, code=[])
    Trainer(run, Dataset.open(folder), report=lambda line: None).fit()
    return [record["loss"] for record in read_metrics(run.folder) if "loss" in record]


@pytest.mark.parametrize("sparse", [name.value for name in SparseOptimizerName])
def test_the_gpu_loses_what_the_cpu_loses_step_by_step(tmp_path: Path, sparse: str):
    on_gpu = losses(tmp_path, device="cuda", sparse=sparse)
    on_cpu = losses(tmp_path, device="cpu", sparse=sparse)
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3)


@pytest.mark.parametrize("graphs", ["false", "true"])
def test_a_compiled_model_loses_the_same_with_and_without_graphs(
    tmp_path: Path, graphs: str
):
    settings = ("trainer.compile=true", f"trainer.cuda_graphs={graphs}")
    compiled = losses(tmp_path, *settings, device="cuda", sparse="rowwise_adagrad")
    on_cpu = losses(tmp_path, device="cpu", sparse="rowwise_adagrad")
    assert compiled == pytest.approx(on_cpu, rel=1e-3)
