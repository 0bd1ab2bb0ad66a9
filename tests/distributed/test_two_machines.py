"""Two "machines" on one: network namespaces joined by a cable, a real rendezvous."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlrm.commands.train import train
from dlrm.metric_log import read_metrics
from tests.runs import tiny_overrides

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("torchrun")]

SECONDS = 150
PORT = 29400


@dataclass(frozen=True, slots=True)
class Machine:
    """A network namespace with one interface, which leads to the other machine."""

    name: str
    interface: str
    address: str

    def received_bytes(self) -> int:
        text = run("ip", "-n", self.name, "-s", "-j", "link", "show", self.interface)
        return int(json.loads(text)[0]["stats64"]["rx"]["bytes"])


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
    return done.stdout


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Join two namespaces by a veth pair; skip where that is not permitted."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip: apt-get install iproute2")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    number = os.getpid()
    pair = tuple(
        Machine(f"dlrm-{number}-{side}", f"dlrm{number % 10**6}{side}", address)
        for side, address in (("a", "10.231.7.1"), ("b", "10.231.7.2"))
    )
    one, other = pair
    try:
        for machine in pair:
            run("ip", "netns", "add", machine.name)
        run(
            "ip", "link", "add", one.interface, "netns", one.name, "type", "veth",
            "peer", "name", other.interface, "netns", other.name,
        )  # fmt: skip
        for machine in pair:
            ip = ("ip", "-n", machine.name)
            address = f"{machine.address}/24"
            run(*ip, "addr", "add", address, "dev", machine.interface)
            run(*ip, "link", "set", machine.interface, "up")
            run(*ip, "link", "set", "lo", "up")
    except OSError as error:
        remove(pair)
        pytest.skip(f"network namespaces are not permitted here: {error}")
    yield one, other
    remove(pair)


def remove(pair: tuple[Machine, ...]) -> None:
    for machine in pair:
        subprocess.run(["ip", "netns", "del", machine.name], capture_output=True)


def torchrun(
    machine: Machine, host: Machine, *overrides: str, ranks: int
) -> subprocess.Popen[str]:
    """Start a machine's share of a job of two machines; they meet at ``host``."""
    command = [
        "ip", "netns", "exec", machine.name,
        sys.executable, "-m", "torch.distributed.run",
        "--nnodes=2", f"--nproc-per-node={ranks}", "--rdzv-id=two-machines",
        "--rdzv-backend=c10d", f"--rdzv-endpoint={host.address}:{PORT}",
        # Both have one host name, so that torch cannot tell from it which is the host.
        f"--rdzv-conf=is_host={int(machine is host)}",
        f"--local-addr={machine.address}",
        "-m", "dlrm", "train", *overrides,
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "GLOO_SOCKET_IFNAME": machine.interface,
            "OMP_NUM_THREADS": "1",
        },
    )


def losses(run_folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(run_folder) if "loss" in row]


@pytest.mark.parametrize("ranks", [1, 2])
def test_two_machines_train_what_one_trains(
    machines: tuple[Machine, Machine], ranks: int, tmp_path: Path, prepared: Path
):
    # Dropout draws other units where the batch is parted otherwise.
    settings = ("trainer.log_every=1", "sharding.strategy=row_wise", "model.dropout=0")
    overrides = tiny_overrides(tmp_path, *settings, prepared=prepared)
    host, other = machines
    jobs = [
        torchrun(machine, host, *overrides, "run_name=two", ranks=ranks)
        for machine in (host, other)
    ]
    try:
        texts = [job.communicate(timeout=SECONDS)[0] for job in jobs]
    finally:
        for job in jobs:
            # torchrun ends its ranks, as Ctrl-C would.
            job.terminate()
            job.wait()
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(texts)
    assert f"on {2 * ranks} processes" in texts[0] + texts[1]

    alone = train(*overrides, "run_name=one", report=lambda line: None)
    assert losses(tmp_path / "outputs" / "two") == pytest.approx(
        losses(alone.folder), abs=1e-6
    )
    # The machines share a disk, but what ranks tell each other goes through the cable.
    assert all(machine.received_bytes() > 50_000 for machine in machines)
