"""A model that would not fit the memory is refused before it is made."""

from __future__ import annotations

import pytest
import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.planning import fits
from dlrm.planning.fits import BESIDE, check_memory

CPU = torch.device("cpu")
DENSE = torch.nn.Linear(10, 5, device="meta")
ROWS = {"small": 1_000, "large": 1_000_000_000, "middle": 2_000_000}


def model() -> torch.nn.Module:
    tables = [
        EmbeddingBagConfig(
            name=name, num_embeddings=rows, embedding_dim=16, feature_names=[name]
        )
        for name, rows in ROWS.items()
    ]
    bags = EmbeddingBagCollection(tables=tables, device=torch.device("meta"))
    return torch.nn.ModuleDict({"embeddings": bags, "dense": DENSE})


def needed(state_numbers: float, *, averaged: bool = False) -> int:
    """Return the bytes by the definition: float32 rows of 16 and their state."""
    rows = sum(ROWS.values())
    tables = rows * 4 * (16 + state_numbers + 16 * averaged)
    dense = 4 * (10 * 5 + 5) * (4 + averaged)
    return int(tables + dense + BESIDE)


CASES = [
    (SparseOptimizerName.sgd, 0, False), (SparseOptimizerName.rowwise_adagrad, 1, True),
    (SparseOptimizerName.adam, 32, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "state_numbers", "averaged"), CASES)
def test_what_just_fits_is_taken_and_a_byte_less_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    name: SparseOptimizerName,
    state_numbers: float,
    averaged: bool,
):
    wanted = needed(state_numbers, averaged=averaged)
    asked = {"optimizer": SparseOptimizer(name=name), "averaged": averaged}
    monkeypatch.setattr(fits, "free_memory", lambda: wanted)
    check_memory(model(), device=CPU, **asked)
    monkeypatch.setattr(fits, "free_memory", lambda: wanted - 1)
    with pytest.raises(ConfigError):
        check_memory(model(), device=CPU, **asked)


def test_the_largest_tables_and_what_helps_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fits, "free_memory", lambda: 10**9)
    optimizer = SparseOptimizer(name=SparseOptimizerName.adam)
    with pytest.raises(ConfigError) as refused:
        check_memory(model(), device=CPU, optimizer=optimizer, averaged=False)
    message = str(refused.value)
    assert "must fit into the 1.0 GB of memory that this process may take" in message
    assert "it needs about 193 GB" in message
    assert "Largest: large 192 GB (1,000,000,000 rows of 16), middle 384 MB" in message
    assert "model.embedding_dtype=float16 (32.1 GB less)" in message
    assert "optimizer.sparse.name=rowwise_adagrad (128 GB less)" in message
    assert "trainer.check_memory=false" in message
