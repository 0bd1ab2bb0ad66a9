from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.model import ModelConfig
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.data.batch import Batch
from dlrm.embeddings.local import to_local
from dlrm.models import build_model, model_config
from tests.builders import FeatureSchema, random_batch, small_schema

SGD = SparseOptimizer(name=SparseOptimizerName.sgd, lr=0.1)
INTERACTIONS = ("dot", "cat", "dot_cat", "dcn_v2", "projection")


def dlrm_section(**settings: object) -> dict[str, object]:
    return {
        "name": "dlrm", "embedding_dim": 4, "bottom_mlp": [5], "top_mlp": [6],
        **settings,
    }  # fmt: skip


def build(schema: FeatureSchema, section: dict[str, object]) -> nn.Module:
    """Return a model on the CPU with random tables."""
    torch.manual_seed(0)
    model = build_model(model_config(section), schema)
    to_local(model, optimizer=SGD, device=torch.device("cpu"))
    for name, tensor in model.state_dict().items():
        if "embedding_bags" in name:
            tensor.copy_(0.3 * torch.randn_like(tensor))
    return model


def numpy_state(model: nn.Module) -> dict[str, np.ndarray]:
    return {
        k: v.detach().numpy().astype(np.float64) for k, v in model.state_dict().items()
    }


def mlp(
    state: dict[str, np.ndarray], name: str, x: np.ndarray, relus: int
) -> np.ndarray:
    """Apply an MLP's linear layers, the first ``relus`` of them with ReLU."""
    start = f"{name}.layers."
    layers = sorted({int(k[len(start) :].split(".")[0]) for k in state if start in k})
    for number, layer in enumerate(layers):
        weight = state[f"{name}.layers.{layer}.weight"]
        x = x @ weight.T + state[f"{name}.layers.{layer}.bias"]
        if number < relus:
            x = np.maximum(x, 0)
    return x


def pooled(state: dict[str, np.ndarray], batch: Batch, name: str) -> np.ndarray:
    """Return the sums of each bag, by a loop over the jagged values."""
    table = state[f"embeddings.collections.pooled.embedding_bags.{name}.weight"]
    bags = batch.sparse["pooled"][name]
    values, offsets = bags.values().tolist(), bags.offsets().tolist()
    return np.stack(
        [
            sum((table[i] for i in values[a:b]), np.zeros(table.shape[1]))
            for a, b in itertools.pairwise(offsets)
        ]
    )


def crossed(state: dict[str, np.ndarray], x0: np.ndarray) -> np.ndarray:
    """Return DCN V2's three full-rank cross layers, as its equation 1."""
    x = x0
    for layer in range(3):
        weight = state[f"mixer.maps.{layer}.weight"]
        x = x0 * (x @ weight.T + state[f"mixer.maps.{layer}.bias"]) + x
    return x


def projected(state: dict[str, np.ndarray], x: np.ndarray, width: int) -> np.ndarray:
    """Return the products of four by four vectors, each a ReLU layer of all."""
    left, right = (
        mlp(state, f"mixer.{side}", x, relus=9) for side in ("left", "right")
    )
    pairs = itertools.product(range(4), range(4))
    products = [
        (left[:, i * width : (i + 1) * width] * right[:, j::4]).sum(1) for i, j in pairs
    ]
    return np.stack(products, axis=1)


def expected_logits(
    model: nn.Module, batch: Batch, schema, interaction: str
) -> np.ndarray:
    """Return DLRM's logits in float64, by the paper's formula."""
    state = numpy_state(model)
    vectors = [pooled(state, batch, feature.name) for feature in schema.sparse]
    for i, vector in enumerate(vectors):
        if f"projections.maps.{i}.weight" in state:
            vectors[i] = vector @ state[f"projections.maps.{i}.weight"].T
    parts = []
    if schema.num_dense:
        dense = mlp(
            state, "bottom_mlp", batch.dense.numpy().astype(np.float64), relus=9
        )
        vectors = [dense, *vectors]
        parts = [dense]
    joined = np.concatenate(vectors, axis=1)
    if interaction in ("cat", "dot_cat"):
        parts = [joined]
    if interaction in ("dot", "dot_cat"):
        pairs = itertools.combinations(vectors, 2)
        parts.append(np.stack([(a * b).sum(1) for a, b in pairs], axis=1))
    if interaction == "dcn_v2":
        parts = [crossed(state, joined)]
    if interaction == "projection":
        parts.append(projected(state, joined, width=vectors[0].shape[1]))
    inputs = np.concatenate(parts, axis=1)
    zeros = np.zeros((len(inputs), -inputs.shape[1] % 16))
    return mlp(state, "top_mlp", np.concatenate([inputs, zeros], axis=1), relus=1)


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("num_dense", [0, 2])
@pytest.mark.parametrize("widths", [(4, 4, 4), (4, 8, 3)])
def test_logits_are_those_of_the_paper(interaction, num_dense, widths):
    schema = small_schema(num_dense=num_dense, widths=widths)
    model = build(schema, dlrm_section(interaction=interaction))
    batch = random_batch(schema, num_rows=9)
    expected = expected_logits(model, batch, schema, interaction)
    np.testing.assert_allclose(model(batch).detach().numpy(), expected, atol=1e-5)


def test_dcnv2_logits_are_those_of_the_paper():
    schema = small_schema(widths=(4, 8, 3))
    section = {
        "name": "dlrm_dcnv2", "embedding_dim": 4, "bottom_mlp": [5], "top_mlp": [6],
        "cross_layers": 2, "cross_rank": 3,
    }  # fmt: skip
    model = build(schema, section)
    batch = random_batch(schema, num_rows=9)
    state = numpy_state(model)
    dense = mlp(state, "bottom_mlp", batch.dense.numpy().astype(np.float64), relus=9)
    x0 = np.concatenate(
        [dense, *(pooled(state, batch, f.name) for f in schema.sparse)], axis=1
    )
    x = x0
    for layer in range(2):
        down, up = (
            state[f"cross.down.{layer}.weight"],
            state[f"cross.up.{layer}.weight"],
        )
        x = x0 * (x @ down.T @ up.T + state[f"cross.up.{layer}.bias"]) + x
    expected = mlp(state, "top_mlp", x, relus=1)
    np.testing.assert_allclose(model(batch).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["dlrm", "dlrm_dcnv2"])
def test_loss_falls_and_every_parameter_learns(name):
    schema = small_schema(widths=(4, 8, 4))
    section = {"name": name, "embedding_dim": 4, "bottom_mlp": [8], "top_mlp": [8]}
    model = build(schema, section)
    batch = random_batch(schema, num_rows=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = nn.functional.binary_cross_entropy_with_logits(
            model(batch).squeeze(1), batch.labels
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name


@pytest.mark.parametrize("name", ["dlrm", "dlrm_dcnv2"])
@pytest.mark.parametrize(("num_dense", "widths"), [(2, ()), (0, (4,))])
def test_one_kind_of_feature_alone_is_enough(name, num_dense, widths):
    schema = small_schema(num_dense=num_dense, widths=widths)
    section = {"name": name, "embedding_dim": 4, "bottom_mlp": [5], "top_mlp": [6]}
    if name == "dlrm":
        section["interaction"] = "cat"
    assert build(schema, section)(random_batch(schema, num_rows=3)).shape == (3, 1)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_every_interaction_learns_in_all_its_parameters(interaction):
    schema = small_schema(widths=(4, 8, 4))
    model = build(schema, dlrm_section(interaction=interaction))
    model(random_batch(schema, num_rows=64)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("cross", ["full_rank", "low_rank", "mixture"])
def test_every_cross_serves_the_dcn_v2_interaction(cross):
    schema = small_schema(num_dense=0, widths=(4,))
    section = dlrm_section(interaction="dcn_v2", cross=cross, cross_rank=2)
    assert build(schema, section)(random_batch(schema, num_rows=3)).shape == (3, 1)


def test_hidden_layers_of_a_projection_and_its_vectors_are_settings():
    section = dlrm_section(
        interaction="projection", projection_mlp=[7], projected_vectors=2
    )
    model = build(small_schema(), section)
    shapes = [tuple(weight.shape) for weight in model.mixer.left.parameters()]
    assert shapes == [(7, 16), (7,), (8, 7), (8,)]
    assert model.mixer.output_dim == 4


def test_equal_widths_need_no_projection():
    model = build(small_schema(widths=(4, 4, 4)), dlrm_section())
    assert not [name for name, _ in model.named_parameters() if "projections" in name]


def test_a_dot_of_one_vector_is_refused_by_name():
    schema = small_schema(num_dense=0, widths=(4,))
    with pytest.raises(ConfigError, match="interaction=dot needs at least 2 vectors"):
        build_model(model_config(dlrm_section()), schema)


def test_an_unknown_model_is_refused_with_a_near_match():
    with pytest.raises(ConfigError, match=r"it is 'dlmr'\. Did you mean dlrm\?"):
        model_config({"name": "dlmr"})


def test_an_unknown_setting_is_refused_by_its_key():
    with pytest.raises(ConfigError, match=r"model\.top_mpl.*top_mlp"):
        model_config(dlrm_section(top_mpl=[3]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dropout": 1.5}, "model.dropout"),
        ({"top_mlp": [0]}, "model.top_mlp"),
        ({"embedding_dim": 0}, "model.embedding_dim"),
        ({"interaction": "dots"}, "dot"),
        ({"cross_layers": 0}, "model.cross_layers must be >= 1, but it is 0"),
        ({"projected_vectors": 0}, "model.projected_vectors must be >= 1"),
        ({"projection_mlp": [0]}, "model.projection_mlp"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        model_config(dlrm_section(**setting))


def test_a_config_is_of_the_models_own_class():
    config = model_config(dlrm_section())
    assert isinstance(config, ModelConfig)
    assert type(config).__name__ == "DLRMConfig"
