"""What yardsticks share: a model's shape, batches in memory, and where there is none.

A yardstick is a loop with nothing between torch and the tables, whose batches are in
memory already. There is one for DLRM with the dot interaction or a low-rank cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import nn

from dlrm.config.features import Pooling
from dlrm.config.optimizer import DenseOptimizer, SparseOptimizerName
from dlrm.config.root import Config
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.storage.dataset import Dataset
from dlrm.layers.cross import CrossKind
from dlrm.models import model_config
from dlrm.models.dlrm import DLRMConfig, Interaction
from dlrm.models.dlrm_dcnv2 import DLRMDCNv2Config

BATCHES_IN_MEMORY = 50
_NAMES = SparseOptimizerName
BARE_OPTIMIZERS = (_NAMES.sgd, _NAMES.adagrad, _NAMES.rowwise_adagrad)
"""What fbgemm's CPU tables have."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A DLRM as a yardstick builds it; without a cross it has the dot interaction."""

    table_rows: tuple[int, ...]
    """One table a sparse feature."""
    num_dense: int
    width: int
    bottom_mlp: tuple[int, ...]
    top_mlp: tuple[int, ...]
    cross_layers: int = 0
    cross_rank: int = 0

    @property
    def num_vectors(self) -> int:
        """Tables and the dense vector."""
        return len(self.table_rows) + 1

    @property
    def top_dim(self) -> int:
        """Width of what the top MLP takes in."""
        count = self.num_vectors
        if self.cross_layers:
            return count * self.width
        return self.width + count * (count - 1) // 2


@dataclass(frozen=True, slots=True)
class BareBatch:
    """A batch as the kernels take it: int64 indices and offsets, features first."""

    dense: torch.Tensor
    indices: torch.Tensor
    offsets: torch.Tensor
    labels: torch.Tensor


def refusal(name: str, config: Config, schema: FeatureSchema) -> str | None:
    """Return why there is no such yardstick; None where there is one."""
    sparse, dense = config.optimizer.sparse, config.optimizer.dense
    if isinstance(found := shape_of(config, schema), str):
        return found
    if sparse.name not in BARE_OPTIMIZERS:
        names = ", ".join(each.value for each in BARE_OPTIMIZERS)
        return f"its tables have {names}, but optimizer.sparse.name={sparse.name.value}"
    if name == "embedding_bags":
        if config.trainer.device.value == "cuda":
            return "it is a CPU's, but trainer.device=cuda"
        if sparse.name is not _NAMES.sgd or dense.name.lower() != "sgd":
            return "it has one torch.optim.SGD for all, but the optimizers are others"
        if found.cross_layers:
            return "it has the dot interaction alone, but the model crosses"
    return None


def shape_of(config: Config, schema: FeatureSchema) -> Shape | str:
    """Return the yardstick's model for a configuration, or why there is none."""
    model = model_config(config.model)
    layers = rank = 0
    if isinstance(model, DLRMDCNv2Config):
        layers, rank = model.cross_layers, model.cross_rank
    elif not isinstance(model, DLRMConfig):
        return f"it is a DLRM, but model={config.model['name']}"
    elif model.interaction is Interaction.dcn_v2 and model.cross is CrossKind.low_rank:
        layers, rank = model.cross_layers, model.cross_rank
    elif model.interaction is not Interaction.dot:
        return (
            f"it has model.interaction=dot, or dcn_v2 with model.cross=low_rank, but "
            f"model.interaction={model.interaction.value}"
        )
    if model.dropout or model.embedding_dropout or model.batch_norm:
        return "it has no dropout and no batch norm, but the model does"
    widths = {feature.feature.embedding_dim for feature in schema.sparse}
    poolings = {feature.pooling for feature in schema.sparse}
    plain = widths == {model.embedding_dim} and poolings == {Pooling.sum}
    own_tables = len(schema.tables) == len(schema.sparse)
    if not (plain and own_tables and set(schema.groups) == {"pooled"}):
        return "its tables are of one width, one a feature, summed, without weights"
    if not schema.num_dense:
        return "it has dense features, but the data has none"
    return Shape(
        table_rows=tuple(feature.num_embeddings for feature in schema.sparse),
        num_dense=schema.num_dense,
        width=model.embedding_dim,
        bottom_mlp=tuple(model.bottom_mlp),
        top_mlp=tuple(model.top_mlp),
        cross_layers=layers,
        cross_rank=rank,
    )


def batches_in_memory(
    config: Config, dataset: Dataset, *, device: torch.device
) -> list[BareBatch]:
    """Return the first shuffled batches of an epoch, copied to where they are used."""
    rows = dataset.split("train")
    order = RowOrder(
        rows.num_rows,
        seed=config.trainer.seed,
        shuffle=True,
        max_rows_in_memory=config.trainer.shuffle_rows_in_memory,
    )
    size = config.trainer.global_batch_size
    loader = BatchLoader(
        rows, dataset.schema, order=order, global_batch_size=size, prefetch_batches=0
    )
    found = [bare_batch(b) for b in islice(loader.batches(0), BATCHES_IN_MEMORY)]
    # A short last batch would make the yardstick's turns of unequal length.
    whole = [batch for batch in found if len(batch.labels) == size] or found
    return [
        BareBatch(
            dense=batch.dense.to(device),
            indices=batch.indices.to(device),
            offsets=batch.offsets.to(device),
            labels=batch.labels.to(device),
        )
        for batch in whole
    ]


def bare_batch(batch: Batch) -> BareBatch:
    """Return one of our batches as bare tensors."""
    bags = batch.sparse["pooled"]
    return BareBatch(
        dense=batch.dense.clone(),
        indices=bags.values().long(),
        offsets=bags.offsets().long(),
        labels=batch.labels.clone(),
    )


def mlp(widths: list[int], *, last_relu: bool) -> nn.Sequential:
    """Return linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))


def torch_optimizer(
    parameters: list[nn.Parameter], options: DenseOptimizer
) -> torch.optim.Optimizer:
    """Return torch's own optimizer of that name, as torch makes it by default."""
    names = {name.lower(): name for name in dir(torch.optim)}
    build = getattr(torch.optim, names[options.name.lower()])
    found: torch.optim.Optimizer = build(
        parameters,
        lr=options.lr,
        weight_decay=options.weight_decay,
        **options.options,
    )
    return found
