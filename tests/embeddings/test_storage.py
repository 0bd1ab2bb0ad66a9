"""Where a table's memory lies: what each kind runs on, shares, and refuses by name."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Storage, TableSharding
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.fbgemm_bags import FbgemmBags, fbgemm_refusal
from dlrm.embeddings.kernel_options import kernel_options
from dlrm.embeddings.kernels import Kernel, build_kernels
from dlrm.embeddings.local import local_collections, to_local
from dlrm.embeddings.local_tables import TableRows
from dlrm.embeddings.state import table_states
from dlrm.embeddings.storage import fbgemm_location, storage_refusal
from dlrm.embeddings.torch_bags import TorchBags
from tests.embeddings.oracle import CPU, FUSED, keyed_bags, plain_model, table

SGD = SparseOptimizer(name=SparseOptimizerName.sgd, lr=0.5)
CUDA = torch.device("cuda")
BAGS = {"a": [[1, 1, 4], [], [0]], "b": [[3], [3, 0], []]}


def stored(storage: Storage | None, **more: object) -> TableOptions:
    return TableOptions(sharding=TableSharding(storage=storage), **more)


def two_tables(a: TableOptions, b: TableOptions):
    return [
        table("t", 7, 4, ["a"], options=a),
        table("u", 4, 4, ["b"], options=b),
    ]


def kernels_of(tables, *, storage: Storage | None = None, **more: object) -> list[Bags]:
    return build_kernels(
        tables, is_weighted=False, optimizer=SGD, device=CPU, storage=storage, **more
    )


def refusal(storage: Storage, device: torch.device, **options: object) -> str | None:
    config = table("t", 7, 4, ["a"], options=stored(storage, **options))
    resolved = kernel_options(config, SGD)
    return storage_refusal(
        resolved, device, fbgemm_refusal=fbgemm_refusal(resolved, device)
    )


def test_a_table_has_its_own_storage_else_the_default_else_fused():
    own, none = stored(Storage.dense), stored(None)
    for given, default, expected in (
        (own, Storage.fused, Storage.dense),
        (none, Storage.dense, Storage.dense),
        (none, None, Storage.fused),
    ):
        config = table("t", 7, 4, ["a"], options=given)
        assert kernel_options(config, SGD, default).storage is expected


def test_dense_is_torchs_kernel_and_fused_is_not():
    (dense,) = kernels_of(two_tables(stored(None), stored(None)), storage=Storage.dense)
    (fused,) = kernels_of(two_tables(stored(None), stored(None)))
    assert isinstance(dense, TorchBags)
    assert type(fused).__name__ == FUSED


def test_tables_of_different_storage_are_different_kernels():
    kernels = kernels_of(two_tables(stored(Storage.dense), stored(None)))
    assert {type(bags).__name__ for bags in kernels} == {"TorchBags", FUSED}


def test_a_dense_table_is_trained_to_what_a_fused_one_is():
    weights = {}
    for storage in (Storage.dense, Storage.fused):
        model = plain_model(two_tables(stored(None), stored(None)))
        to_local(model, optimizer=SGD, device=CPU, storage=storage)
        for _ in range(3):
            vectors = model.bags(keyed_bags(BAGS)).values()
            (0.5 * (vectors - 1.0) ** 2).sum().backward()
        weights[storage] = {n: s.weight for n, s in table_states(model).items()}
    for name, weight in weights[Storage.dense].items():
        torch.testing.assert_close(weight, weights[Storage.fused][name])


@pytest.mark.parametrize("storage", [Storage.fused_uvm, Storage.fused_uvm_caching])
def test_memory_that_a_gpu_reads_is_refused_without_one(storage: Storage):
    tables = two_tables(stored(storage), stored(None))
    with pytest.raises(ConfigError) as caught:
        kernels_of(tables)
    assert str(caught.value) == (
        f"Table 't' cannot have storage={storage.value}: it needs a GPU to read the "
        f"host's memory; on a CPU all tables lie there. Use storage=fused."
    )


@pytest.mark.parametrize("storage", [Storage.fused_uvm, Storage.fused_uvm_caching])
def test_what_a_gpu_trained_a_cpu_can_look_up(storage: Storage):
    (bags,) = kernels_of(two_tables(stored(storage), stored(None)), trainable=False)
    assert type(bags).__name__ == FUSED


def test_tables_on_disk_are_refused_with_the_reason():
    for device in (CPU, CUDA):
        found = refusal(Storage.key_value, device)
        assert found is not None
        assert "RocksDB" in found


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_norm": 1.0}, "max_norm=1.0"),
        ({"padding_idx": 0}, "padding_idx"),
        ({"scale_grad_by_freq": True}, "scale_grad_by_freq=true"),
        ({"frozen": True}, "frozen=true"),
    ],
)
def test_an_option_that_fbgemm_lacks_is_refused_in_host_memory(options, named: str):
    assert refusal(Storage.fused_uvm, CUDA) is None
    assert refusal(Storage.fused, CUDA, **options) is None
    found = refusal(Storage.fused_uvm_caching, CUDA, **options)
    assert found is not None
    assert f"a table with {named} right" in found


def test_a_data_parallel_table_cannot_lie_in_host_memory():
    config = table("t", 7, 4, ["a"], options=stored(Storage.fused_uvm))
    with pytest.raises(ConfigError, match=r"data_parallel.* Use storage=fused"):
        build_kernels(
            [config],
            is_weighted=False,
            optimizer=SGD,
            device=CUDA,
            kernel=Kernel.torch,
        )


def test_each_storage_is_one_of_fbgemms_places():
    assert {kind: fbgemm_location(kind, CUDA) for kind in list(Storage)[:3]} == {
        Storage.fused: EmbeddingLocation.DEVICE,
        Storage.fused_uvm: EmbeddingLocation.MANAGED,
        Storage.fused_uvm_caching: EmbeddingLocation.MANAGED_CACHING,
    }
    assert fbgemm_location(Storage.fused, CPU) is EmbeddingLocation.HOST


def test_the_share_of_cached_rows_is_one_kernels():
    sharding = TableSharding(storage=Storage.fused_uvm_caching, cache_load_factor=0.5)
    config = table("t", 7, 4, ["a"], options=TableOptions(sharding=sharding))
    assert kernel_options(config, SGD).cache_load_factor == 0.5
    other = dataclasses.replace(sharding, storage=None)
    config = table("t", 7, 4, ["a"], options=TableOptions(sharding=other))
    # Told of a cache that its storage has not, it may share a kernel all the same.
    assert kernel_options(config, SGD).cache_load_factor is None


def test_a_cache_load_factor_without_a_cache_is_refused():
    given = TableSharding(storage=Storage.fused_uvm, cache_load_factor=0.5)
    with pytest.raises(ConfigError, match="cache_load_factor must be unset but for"):
        given.check("tables.t.sharding")


class Cached:
    """A kernel whose weight is only right after it was settled."""

    def __init__(self) -> None:
        self.memory, self.cache = torch.zeros(2, 2), torch.ones(2, 2)

    def settle(self) -> None:
        self.memory.copy_(self.cache)

    def weight(self, index: int) -> torch.Tensor:
        self.settle()
        return self.memory


def test_a_tables_rows_are_settled_whenever_they_are_read():
    bags = Cached()
    rows = TableRows(bags, 0)
    for read in (
        lambda: rows.weight,
        lambda: rows.state_dict()["weight"],
        lambda: torch.nn.ModuleDict({"t": rows}).state_dict()["t.weight"],
    ):
        bags.cache += 1.0
        torch.testing.assert_close(read(), bags.cache)
    bags.cache += 1.0
    rows.load_state_dict({"weight": torch.full((2, 2), -1.0)})
    assert (bags.memory == -1.0).all()


def cached_bags() -> FbgemmBags:
    """Return tables that believe in a cache, which a CPU's fbgemm has none of."""
    sharding = TableSharding(storage=Storage.fused_uvm_caching)
    config = table("t", 7, 4, ["a"], options=TableOptions(sharding=sharding))
    return FbgemmBags([config], kernel_options(config, SGD), device=CPU)


def test_reading_cached_tables_between_forward_and_backward_is_refused():
    bags = cached_bags()
    ids, offsets = torch.tensor([1, 2]), torch.tensor([0, 1, 2])
    vectors = bags.pooled(ids, offsets, None)
    bags.weight(0)
    with pytest.raises(RuntimeError, match="between a forward pass and its backward"):
        vectors.sum().backward()
    bags.pooled(ids, offsets, None).sum().backward()
    assert bags.weight(0)[1:3].tolist() == [[-0.5] * 4] * 2


def test_a_swap_takes_a_default_storage_for_all_collections():
    model = plain_model(two_tables(stored(None), stored(None)))
    to_local(model, optimizer=SGD, device=CPU, storage=Storage.dense)
    (local,) = local_collections(model)
    assert [type(bags) for bags in local.kernels] == [TorchBags]
