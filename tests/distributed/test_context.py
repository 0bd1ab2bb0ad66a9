"""Which process this is, from the variables of torchrun and of Slurm."""

from __future__ import annotations

import os

import pytest
import torch

from dlrm.config.errors import ConfigError
from dlrm.config.trainer import Device
from dlrm.distributed.context import (
    ProcessContext,
    even_ranks_per_node,
    first_host,
    is_launched,
    offer,
    port_of,
)
from dlrm.distributed.device import choose_device

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node-0",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "gpu[03-05]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "5",
}
NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name in TORCHRUN or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> ProcessContext:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return ProcessContext.from_environment()


def test_without_a_launcher_there_is_one_process():
    assert ProcessContext.from_environment() == ProcessContext(0, 0, 1, 1)
    assert not is_launched()


def test_torchrun_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch):
    assert given(monkeypatch, TORCHRUN) == ProcessContext(5, 1, 8, 4, "env://")
    assert is_launched()


def test_a_job_of_one_process_is_launched_too(monkeypatch: pytest.MonkeyPatch):
    alone = given(monkeypatch, {"RANK": "0", "WORLD_SIZE": "1"})
    assert alone == ProcessContext(0, 0, 1, 1)
    assert is_launched()


def test_without_local_ranks_each_machine_has_one_process(
    monkeypatch: pytest.MonkeyPatch,
):
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    context = given(monkeypatch, {name: TORCHRUN[name] for name in names})
    assert context == ProcessContext(5, 0, 8, 1)


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=f"{name} must be a whole number.*'two'"):
        given(monkeypatch, {name: "two"})


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_that_is_missing_beside_others_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    rest = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(ConfigError, match=f"variable {name} must be set where"):
        given(monkeypatch, rest)


def test_a_rank_beyond_the_number_of_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    with pytest.raises(ConfigError, match="but this is rank 8 of 8"):
        given(monkeypatch, TORCHRUN | {"RANK": "8"})


def test_a_task_of_srun_is_a_rank(monkeypatch: pytest.MonkeyPatch):
    context = given(monkeypatch, SRUN)
    place = f"tcp://gpu03:{port_of(1234, 2)}"
    assert context == ProcessContext(3, 1, 5, 2, place, by_slurm=True)
    assert is_launched()


def test_the_last_node_of_a_step_may_have_fewer_tasks(monkeypatch: pytest.MonkeyPatch):
    last = {"SLURM_NODEID": "2", "SLURM_PROCID": "4", "SLURM_LOCALID": "0"}
    assert given(monkeypatch, SRUN | last).ranks_per_node == 1


def test_an_address_set_by_the_batch_script_is_kept(monkeypatch: pytest.MonkeyPatch):
    own = {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "4711"}
    assert given(monkeypatch, SRUN | own).init_method == "tcp://10.0.0.7:4711"


def test_torchrun_within_an_srun_step_goes_before_slurm(
    monkeypatch: pytest.MonkeyPatch,
):
    assert given(monkeypatch, SRUN | TORCHRUN) == ProcessContext(5, 1, 8, 4)


def test_a_batch_script_without_srun_is_one_process(monkeypatch: pytest.MonkeyPatch):
    batch = {
        "SLURM_JOB_ID": "1234",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_TASKS_PER_NODE": "2(x2)",
        "SLURM_JOB_NODELIST": "gpu[03-04]",
    }
    assert given(monkeypatch, batch) == ProcessContext()
    assert not is_launched()


@pytest.mark.parametrize(
    "name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_NODELIST"]
)
def test_a_step_without_one_of_its_variables_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    rest = {key: value for key, value in SRUN.items() if key != name}
    with pytest.raises(ConfigError, match=f"variable {name} must be set"):
        given(monkeypatch, rest)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[01-03,7]", "node01"),
        ("node[7]", "node7"),
        ("node[1,3]-ib,login", "node1-ib"),
        ("rack[2-3]node[08-11].cluster,x", "rack2node08.cluster"),
        ("a.b-c,node[1-2]", "a.b-c"),
    ],
)
def test_the_first_host_of_slurms_list(hosts: str, first: str):
    assert first_host(hosts) == first


def test_steps_of_a_job_and_neighbouring_jobs_have_ports_of_their_own():
    ports = [port_of(job, step) for job in (41, 42, 43) for step in range(16)]
    assert len(set(ports)) == len(ports)
    assert all(15_000 <= port < 30_000 for port in (*ports, port_of(4_294_967_295)))


def contexts(*nodes: int) -> list[ProcessContext]:
    """Return the processes of nodes with so many of them, rank by rank."""
    places = [(local, size) for size in nodes for local in range(size)]
    return [
        ProcessContext(rank, local, len(places), size)
        for rank, (local, size) in enumerate(places)
    ]


@pytest.mark.parametrize(("nodes", "number"), [((2, 2), 2), ((4,), 4), ((1, 1, 1), 1)])
def test_nodes_with_equally_many_processes_are_even(nodes: tuple[int], number: int):
    assert even_ranks_per_node(contexts(*nodes)) == number


@pytest.mark.parametrize("nodes", [(2, 1), (1, 2), (2, 2, 1), (1, 3)])
def test_nodes_with_unequally_many_are_not(nodes: tuple[int]):
    assert even_ranks_per_node(contexts(*nodes)) is None


def test_nodes_are_not_even_where_ranks_are_dealt_out_in_turns():
    # srun --distribution=cyclic: ranks 0 and 2 lie on one node, 1 and 3 on the other.
    dealt = [ProcessContext(rank, rank // 2, 4, 2) for rank in range(4)]
    assert even_ranks_per_node(dealt) is None


def test_what_is_offered_does_not_replace_what_is_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("RANK", "")
    monkeypatch.delenv("RANK")
    offer({"OMP_NUM_THREADS": "1", "RANK": "0"})
    assert (os.environ["OMP_NUM_THREADS"], os.environ["RANK"]) == ("3", "0")


def test_the_cpu_can_always_be_chosen():
    assert choose_device(Device.cpu).type == "cpu"


def machine_with(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


def test_each_process_has_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch):
    given(monkeypatch, TORCHRUN)
    machine_with(4, monkeypatch)
    assert choose_device(Device.auto) == torch.device("cuda", 1)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    given(monkeypatch, TORCHRUN | {"LOCAL_RANK": "3"})
    machine_with(2, monkeypatch)
    with pytest.raises(ConfigError, match="has 2, and this is its process number 4"):
        choose_device(Device.auto)


def test_a_task_that_slurm_shows_one_gpu_takes_it(monkeypatch: pytest.MonkeyPatch):
    given(monkeypatch, SRUN)
    machine_with(1, monkeypatch)
    assert choose_device(Device.cuda) == torch.device("cuda", 0)
