"""What the tests of all models share: building one, and its parts in float64.

The parts are written from their definitions, as loops over a state dict's arrays, and
share no code with the models.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

import dlrm
from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.embeddings.local import to_local
from dlrm.models import build_model, model_config
from tests.builders import random_batch, random_rows, small_schema

State = dict[str, np.ndarray]
SGD = SparseOptimizer(name=SparseOptimizerName.sgd, lr=0.1)
PRESETS = Path(dlrm.__file__).parent.parent / "conf" / "model"
ALL_MODELS = sorted(path.stem for path in PRESETS.glob("*.yaml"))
"""Every built-in model; each has the preset of its name."""
CLICK_MODELS = [name for name in ALL_MODELS if name != "two_tower"]
"""Those whose logits are clicks'; vectors of two towers are another task's."""


def preset(name: str, **settings: object) -> dict[str, object]:
    """Return a model's preset with narrow tables and MLPs, and ``settings``."""
    section = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    for key in ("top_mlp", "bottom_mlp"):
        if section.get(key):
            section[key] = [8]
    return {**section, "embedding_dim": 4, **settings}


def mixed_schema(num_dense: int = 2) -> FeatureSchema:
    """Return one-hot features s0 and s1 and bags s2 under mean, of widths 4, 8, 3."""
    return small_schema(num_dense=num_dense, widths=(4, 8, 3), pooling=Pooling.mean)


def pooled_schema() -> FeatureSchema:
    """Return bags under every pooling, with and without weights, and a dense column."""
    sparse = tuple(
        FittedSparse(
            name=name,
            feature=SparseFeature(
                multi_hot=True,
                embedding_dim=4,
                pooling=pooling,
                weight_column=weight_column,
            ),
            table=name,
            num_embeddings=9,
        )
        for pooling in Pooling
        for weight_column in (None, "weight")
        for name in [f"{pooling.value}_{weight_column}"]
    )
    return dataclasses.replace(small_schema(num_dense=1), sparse=sparse)


def weighted_batch(schema: FeatureSchema, *, num_rows: int) -> Batch:
    """Return random rows whose ids all have a weight."""
    rows = random_rows(schema, num_rows=num_rows)
    weights = np.random.default_rng(1).random(len(rows.bag_values))
    rows = dataclasses.replace(rows, bag_weights=weights.astype(np.float32))
    return collate(rows, np.arange(num_rows, dtype=np.int64), schema)


def build(
    schema: FeatureSchema, section: dict[str, object], *, seed: int = 0
) -> nn.Module:
    """Return a model on the CPU whose tables are random and train by SGD."""
    torch.manual_seed(seed)
    model = build_model(model_config(section), schema)
    to_local(model, optimizer=SGD, device=torch.device("cpu"))
    for tensor in tables(model).values():
        tensor.copy_(0.3 * torch.randn_like(tensor))
    return model


def tables(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the embedding tables of a model, views of what it trains."""
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if ".collections." in name and name.endswith(".weight")
    }


def numpy_state(model: nn.Module) -> State:
    return {
        name: tensor.detach().numpy().astype(np.float64)
        for name, tensor in model.state_dict().items()
    }


def logits(model: nn.Module, batch: Batch) -> np.ndarray:
    """Return a model's logits [B, 1], as it evaluates."""
    model.eval()
    with torch.no_grad():
        return model(batch).numpy()


def assert_logits(model: nn.Module, batch: Batch, expected: np.ndarray) -> None:
    """Check that a model gives logits [B, 1] of these values."""
    found = logits(model, batch)
    assert found.shape == (len(batch), 1)
    np.testing.assert_allclose(found[:, 0], np.ravel(expected), rtol=1e-5, atol=1e-5)


def linear(state: State, name: str, x: np.ndarray) -> np.ndarray:
    """Apply the linear layer of this name, with or without a bias."""
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def mlp(state: State, name: str, x: np.ndarray, *, logit: bool = True) -> np.ndarray:
    """Apply an MLP without batch norm; with ``logit``, its last layer has no ReLU."""
    start = f"{name}.layers."
    numbers = sorted({int(k[len(start) :].split(".")[0]) for k in state if start in k})
    for number in numbers:
        x = linear(state, f"{start}{number}", x)
        if not (logit and number == numbers[-1]):
            x = np.maximum(x, 0)
    return x


def bags(state: State, prefix: str, batch: Batch, feature: FittedSparse) -> np.ndarray:
    """Return one feature's sums or means, read from the tables under ``prefix``."""
    (table,) = (
        weight
        for name, weight in state.items()
        if name.startswith(f"{prefix}.collections.")
        and name.endswith(f".{feature.table}.weight")
    )
    (jagged,) = (
        jagged[feature.name]
        for jagged in batch.sparse.values()
        if feature.name in jagged.keys()  # noqa: SIM118 - it is no dict
    )
    values, offsets = jagged.values().tolist(), jagged.offsets().tolist()
    found = np.zeros((len(batch), table.shape[1]))
    for row, (start, end) in enumerate(itertools.pairwise(offsets)):
        for i in values[start:end]:
            found[row] += table[i]
        if feature.pooling is Pooling.mean and end > start:
            found[row] /= end - start
    return found


def flat_input(
    state: State, name: str, batch: Batch, schema: FeatureSchema
) -> np.ndarray:
    """Return what ``FlatInput`` of this name defines, [B, I]."""
    dense = batch.dense.numpy().astype(np.float64)
    sparse = [bags(state, f"{name}.embeddings", batch, f) for f in schema.sparse]
    return np.concatenate([dense, *sparse], axis=1)


def field_vectors(
    state: State, name: str, batch: Batch, schema: FeatureSchema
) -> list[np.ndarray]:
    """Return what ``FieldVectors`` of this name defines, F times [B, D]."""
    dense = batch.dense.numpy().astype(np.float64)
    vectors = [
        dense[:, [j]] * state[f"{name}.dense_vectors"][j] for j in range(dense.shape[1])
    ]
    for number, feature in enumerate(schema.sparse):
        vector = bags(state, f"{name}.embeddings", batch, feature)
        if f"{name}.projections.maps.{number}.weight" in state:
            vector = linear(state, f"{name}.projections.maps.{number}", vector)
        vectors.append(vector)
    return vectors


def linear_terms(
    state: State, name: str, batch: Batch, schema: FeatureSchema
) -> np.ndarray:
    """Return what ``LinearTerms`` of this name defines, [B]."""
    terms = np.full(len(batch), state[f"{name}.bias"].item())
    for j in range(schema.num_dense):
        weight = state[f"{name}.dense_weights"][j, 0]
        terms += batch.dense[:, j].numpy().astype(np.float64) * weight
    for feature in schema.derived("linear", embedding_dim=1).sparse:
        terms += bags(state, f"{name}.embeddings", batch, feature)[:, 0]
    return terms


def random_state(model: nn.Module, *, seed: int = 1) -> None:
    """Give every dense parameter a random value, those that start at zero included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def built_on_mixed_widths(
    name: str, *, num_dense: int = 2, **settings: object
) -> tuple[nn.Module, Batch, FeatureSchema]:
    """Return a model with random values everywhere, nine rows, and their schema."""
    schema = mixed_schema(num_dense)
    model = build(schema, preset(name, **settings))
    random_state(model)
    return model, random_batch(schema, num_rows=9), schema
