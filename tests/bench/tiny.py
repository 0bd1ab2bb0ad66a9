"""A workload so small that its loops take no time."""

from __future__ import annotations

from pathlib import Path

from dlrm.config.workload import WorkloadConfig

TINY = WorkloadConfig(
    name="tiny",
    num_dense=3,
    table_rows=[50, 3, 40],
    bag_lengths=[1, 4, 1],
    num_rows=3000,
)
PRESET = """
workload:
  name: tiny
  num_dense: 3
  table_rows: [50, 3, 40]
  bag_lengths: [1, 4, 1]
  num_rows: 3000
model:
  embedding_dim: 4
  bottom_mlp: [8]
  top_mlp: [8]
trainer:
  global_batch_size: 64
"""
SETTINGS = (
    "workload=tiny",
    "optimizer.sparse.name=sgd",
    "optimizer.dense.name=SGD",
    "trainer.num_threads=1",
    "logger.tensorboard=false",
)


def write_preset(folder: Path) -> None:
    """Let ``workload=tiny`` be a preset of a folder's own."""
    (folder / "conf" / "workload").mkdir(parents=True)
    (folder / "conf" / "workload" / "tiny.yaml").write_text(PRESET)
