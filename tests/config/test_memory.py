"""The memory that is free is the machine's, or what the container's limits leave."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from dlrm.config import memory
from dlrm.config.byte_size import shown_bytes
from dlrm.config.memory import free_memory


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("0::/job/step\n")
    return tmp_path


def test_without_limits_it_is_the_machines(cgroups: Path):
    group(cgroups / "cgroup" / "job", memory__max="max\n", memory__current="5\n")
    free = psutil.virtual_memory().available
    assert abs(free_memory() - free) < 0.5 * free


def test_the_tightest_limit_of_the_groups_above_counts(cgroups: Path):
    top = cgroups / "cgroup"
    group(top / "job" / "step", memory__max="9000\n", memory__current="1000\n")
    group(top / "job", memory__max="6000\n", memory__current="5000\n")
    assert free_memory() == 1000


def test_the_page_cache_counts_as_free(cgroups: Path):
    group(
        cgroups / "cgroup" / "job",
        memory__max="6000\n",
        memory__current="6000\n",
        memory__stat="anon 100\ninactive_file 700\nactive_file 50\n",
    )
    assert free_memory() == 750


def test_a_container_sees_its_own_group_as_the_root(cgroups: Path):
    group(cgroups / "cgroup", memory__max="4000\n", memory__current="1500\n")
    assert free_memory() == 2500


def test_limits_of_the_first_version_count_too(cgroups: Path):
    (cgroups / "own").write_text("3:cpu:/a\n2:memory:/job\n")
    group(
        cgroups / "cgroup" / "memory" / "job",
        memory__limit_in_bytes="800\n",
        memory__usage_in_bytes="300\n",
    )
    assert free_memory() == 500


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (99_949, "99.9 kB"),
        (123_456, "123 kB"), (999_600, "1.0 MB"), (2.5e9, "2.5 GB"), (4e15, "4000 TB"),
    ],
)  # fmt: skip
def test_sizes_are_shown_with_two_or_three_digits(size: float, shown: str):
    assert shown_bytes(size) == shown
