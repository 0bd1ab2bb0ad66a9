from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dlrm.config.errors import DataError, WorkerDiedError
from dlrm.data.preparation.blocks import BlockStore
from dlrm.data.preparation.nursery import Nursery, nursery_for
from dlrm.data.preparation.workers import Workers
from tests.data.raw import config


@dataclass(frozen=True)
class Job:
    """Waits, then fails, dies or gives its number."""

    store: BlockStore
    number: int
    seconds: float = 0.0
    end: str = ""

    @property
    def name(self):
        return f"job-{self.number}"

    def make(self, out):
        time.sleep(self.seconds)
        if self.end == "fail":
            raise DataError(f"clicks.csv, line {self.number}: is bad.")
        if self.end == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": self.number, "process": os.getpid()}

    def still_holds(self, result):
        return True


@pytest.fixture(autouse=True)
def others_from_the_start(monkeypatch):
    monkeypatch.setattr(Workers, "_are_ready", _are_ready)


def _are_ready(self):
    """Start the processes, and wait for them."""
    if self._num_workers == 1:
        return False
    if not self._workers:
        self._start_all()
    for worker in self._workers:
        if not worker.is_ready:
            self._take_in(worker.connection)
    return True


def program_of(workers):
    return psutil.Process(workers._nursery.process.pid)


def jobs(folder: Path, *options):
    return [Job(BlockStore(folder), number, **o) for number, o in enumerate(options)]


def test_results_come_in_the_order_of_tasks_from_several_processes(tmp_path):
    with Workers(2) as workers:
        waits = [{"seconds": 0.2}, *[{}] * 6]
        results = list(workers.results(jobs(tmp_path, *waits)))
    assert [result["number"] for result in results] == list(range(7))
    processes = {result["process"] for result in results}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert not any(psutil.pid_exists(process) for process in processes)


def test_of_several_errors_the_first_task_s_is_told(tmp_path):
    some = jobs(tmp_path, {}, {"seconds": 0.3, "end": "fail"}, {"end": "fail"}, {})
    with pytest.raises(DataError, match="line 1: is bad"), Workers(2) as workers:
        list(workers.results(some))


def test_a_killed_process_is_an_error_that_says_how_to_go_on(tmp_path):
    some = jobs(tmp_path, {}, {"end": "die"}, {"seconds": 0.1})
    with (
        pytest.raises(WorkerDiedError, match="SIGKILL.*goes on"),
        Workers(2) as workers,
    ):
        list(workers.results(some))


def test_processes_end_with_the_work_whatever_they_do(tmp_path):
    with Workers(2) as workers:
        results = workers.results(jobs(tmp_path, {}, *[{"seconds": 30}] * 2))
        next(results)
        program = program_of(workers)
        processes = [program, *program.children()]
    assert len(processes) == 1 + 2
    assert not any(psutil.pid_exists(process.pid) for process in processes)


def test_processes_that_are_still_starting_end_at_once(tmp_path):
    nursery = Nursery.start(2)
    with Workers(2, nursery=nursery):
        pass
    assert nursery.process.returncode == -signal.SIGTERM


def test_all_end_when_the_one_that_started_them_is_killed(tmp_path):
    with Workers(2) as workers:
        results = workers.results(jobs(tmp_path, {}, *[{"seconds": 30}] * 2))
        next(results)
        program = program_of(workers)
        children = program.children()
        assert len(children) == 2
        program.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize(("megabytes", "starts"), [(65, True), (63, False)])
def test_large_files_that_are_not_prepared_start_them_early(
    tmp_path, megabytes, starts
):
    log = tmp_path / "clicks.csv"
    with log.open("wb") as file:
        file.truncate(megabytes << 20)
    data = config(prepared=str(tmp_path / "prepared"))
    data.num_workers, data.source = 2, str(log)
    found = [nursery_for(data)]
    data.source = f"{log};s3://bucket/more.csv"
    found.append(nursery_for(data))
    data.source = str(tmp_path / "absent.csv")
    found.append(nursery_for(data))
    data.source, data.num_workers = str(log), 1
    found.append(nursery_for(data))
    data.num_workers = 2
    (tmp_path / "prepared" / f"{data.name}-0123456789ab").mkdir(parents=True)
    found.append(nursery_for(data))
    for nursery in found:
        if nursery is not None:
            nursery.end()
    assert [nursery is not None for nursery in found] == [starts, *[False] * 4]


def test_one_process_works_alone(tmp_path):
    with Workers(1) as workers:
        (result,) = workers.results(jobs(tmp_path, {}))
    assert result["process"] == os.getpid()
