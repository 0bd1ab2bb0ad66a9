"""Tables in each memory that a GPU can read, against tables in its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Storage, Strategy, TableSharding
from dlrm.config.table_options import TableOptions
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.process_group import process_group
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.state import table_parts, table_states
from tests.embeddings.oracle import keyed_bags, plain_model, table
from tests.embeddings.sharded.cases import place

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
GPU = torch.device("cuda", 0)
ROWS, DIM, BATCH = 4096, 32, 256
NAMES = SparseOptimizerName
OTHERS = [Storage.dense, Storage.fused_uvm, Storage.fused_uvm_caching]


def options(storage: Storage) -> TableOptions:
    # The cache holds fewer rows than one batch looks up.
    factor = 0.02 if storage is Storage.fused_uvm_caching else None
    return TableOptions(
        sharding=TableSharding(storage=storage, cache_load_factor=factor)
    )


def local(storage: Storage, name: SparseOptimizerName) -> nn.Module:
    tables = [table("t", ROWS, DIM, ["a"], options=options(storage))]
    model = plain_model(tables, seed=1)
    optimizer = SparseOptimizer(name=name, lr=0.05)
    to_local(model, optimizer=optimizer, device=GPU)
    return model


def bags(number: int):
    random = torch.Generator().manual_seed(number)
    ids = torch.randint(ROWS, (BATCH, 3), generator=random).tolist()
    return keyed_bags({"a": ids}).to(GPU)


def step(model: nn.Module, number: int) -> None:
    vectors = model.bags(bags(number)).values()
    (0.5 * (vectors - 1.0) ** 2).mean(0).sum().backward()


def columns(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: v.clone() for n, v in table_states(model)["t"].columns.items()}


@pytest.mark.parametrize("storage", OTHERS)
@pytest.mark.parametrize("name", [NAMES.sgd, NAMES.rowwise_adagrad, NAMES.adam])
def test_a_table_is_trained_to_the_same_rows_wherever_it_lies(
    storage: Storage, name: SparseOptimizerName
):
    model, expected = local(storage, name), local(Storage.fused, name)
    for number in range(6):
        step(model, number)
        step(expected, number)
    found = columns(model)
    for key, values in columns(expected).items():
        torch.testing.assert_close(found[key], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("storage", OTHERS)
def test_what_is_read_and_written_between_steps_is_what_lookups_see(storage: Storage):
    model = local(storage, NAMES.sgd)
    rows = model.bags.embedding_bags["t"]
    for number in range(3):
        step(model, number)
        stored = model.state_dict()["bags.embedding_bags.t.weight"]
        with torch.no_grad():
            ids = bags(number)
            vectors = model.bags(ids).values()
        sums = stored[ids.values().long()].view(BATCH, 3, DIM).sum(1)
        torch.testing.assert_close(vectors, sums, rtol=1e-4, atol=1e-5)
    rows.load_state_dict({"weight": torch.full((ROWS, DIM), 0.5)})
    with torch.no_grad():
        vectors = model.bags(bags(0)).values()
    assert (vectors == 1.5).all()


def test_a_cached_table_is_not_read_between_forward_and_backward():
    model = local(Storage.fused_uvm_caching, NAMES.sgd)
    vectors = model.bags(bags(0)).values()
    model.state_dict()
    with pytest.raises(RuntimeError, match="between a forward pass and its backward"):
        vectors.sum().backward()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    store = f"file://{tmp_path / 'store'}"
    with process_group(ProcessContext(), device=GPU, init_method=store) as group:
        yield group


def test_a_table_may_be_larger_than_the_gpus_share(group: dist.ProcessGroup):
    share, rows, dim = 2 * 2**30, 8 * 2**20, 128
    assert rows * dim * 4 == 2 * share
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(share / total, GPU)
    torch.cuda.reset_peak_memory_stats(GPU)
    try:
        sharding = TableSharding(
            storage=Storage.fused_uvm_caching, cache_load_factor=0.05
        )
        large = table("t", rows, dim, ["a"], options=TableOptions(sharding=sharding))
        model = nn.Module()
        model.bags = EmbeddingBagCollection(tables=[large], device=torch.device("meta"))
        to_sharded(
            model,
            plan=place(model, {}, 1, default=Strategy.table_wise),
            optimizer=SparseOptimizer(name=NAMES.rowwise_adagrad, lr=0.1),
            group=group,
            device=GPU,
        )
        ids = torch.arange(0, rows, rows // BATCH)[:BATCH].tolist()
        for _ in range(3):
            vectors = model.bags(keyed_bags({"a": [[i] for i in ids]}).to(GPU)).values()
            (0.5 * (vectors - 1.0) ** 2).sum().backward()
        (part,) = table_parts(model)
        touched = part.weight[torch.tensor(ids, device=GPU)]
        assert (touched > 0.0).all()
        assert int((part.weight[1 : rows // BATCH] != 0.0).sum()) == 0
        assert torch.cuda.max_memory_allocated(GPU) < share
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
