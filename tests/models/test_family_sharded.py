"""Any model can be sharded: on two ranks it is trained as one process trains it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.embeddings.sharded.ranks import Ranks
from tests.models.harness import ALL_MODELS, CLICK_MODELS, preset
from tests.models.sharded_jobs import Job, train_alone, train_sharded_in_turn

pytestmark = pytest.mark.xdist_group("ranks")

TOWERS = {
    "query_features": ["city", "tags", "d0"],
    "document_features": ["seen", "words", "topics", "near", "d1"],
    "tower_mlp": [8, 5],
}
OWN_MODEL = '''
"""A model with a layer, a table and a lookup of its own."""

from dataclasses import dataclass

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm.config.model import ModelConfig, register_model
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.models.inputs import LinearTerms


@dataclass(kw_only=True, slots=True)
class NormalizedConfig(ModelConfig):
    hidden_dim: int = 6


@register_model("normalized", NormalizedConfig)
class Normalized(nn.Module):
    def __init__(self, config: NormalizedConfig, schema: FeatureSchema) -> None:
        super().__init__()
        self.linear = LinearTerms(schema)
        self.embeddings = FeatureEmbeddings(schema)
        own = EmbeddingBagConfig(
            name="own", num_embeddings=7, embedding_dim=5, feature_names=["tags"]
        )
        self.own = EmbeddingBagCollection(tables=[own], device=torch.device("meta"))
        self.hidden = nn.Linear(sum(self.embeddings.widths) + 5, config.hidden_dim)
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, 1)

    def forward(self, batch: Batch) -> torch.Tensor:
        own = self.own(batch.sparse["pooled"]).to_dict()["tags"]
        x = torch.cat([*self.embeddings(batch.sparse), own], dim=1)
        return self.linear(batch) + self.output(self.norm(self.hidden(x)).tanh())
'''


def assert_sharded_is_alone(job: Job, ranks: Ranks) -> None:
    """Check losses, dense parameters and tables of every rank and placement."""
    alone = train_alone(job)
    for in_turn in ranks.run(train_sharded_in_turn, job):
        for sharded in in_turn:
            np.testing.assert_allclose(sharded.losses, alone.losses, rtol=1e-5)
            for found, expected in (
                (sharded.dense, alone.dense),
                (sharded.tables, alone.tables),
            ):
                assert found.keys() == expected.keys()
                for name, values in expected.items():
                    np.testing.assert_allclose(
                        found[name], values, rtol=1e-5, atol=1e-5, err_msg=name
                    )


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_two_ranks_are_one_process(name: str, two_ranks: Ranks):
    assert_sharded_is_alone(Job(preset(name)), two_ranks)


def test_only_two_towers_have_a_loss_that_slices_do_not_add_up_to():
    # Their softmax runs over the documents of its own rank's slice: other slices, other
    # candidates. Every other model's rows have losses that no other row changes.
    assert set(ALL_MODELS) - set(CLICK_MODELS) == {"two_tower"}


def test_two_towers_on_two_ranks_are_one_process_under_a_loss_a_row(two_ranks: Ranks):
    assert_sharded_is_alone(Job(preset("two_tower", **TOWERS)), two_ranks)


@pytest.mark.parametrize("fixture", ["one_rank", "two_ranks"])
def test_a_model_of_ones_own_on_ranks_is_one_process(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
):
    file = tmp_path / "normalized.py"
    file.write_text(OWN_MODEL, encoding="utf-8")
    job = Job({"name": "normalized", "embedding_dim": 4}, code=(file,))
    assert_sharded_is_alone(job, request.getfixturevalue(fixture))
