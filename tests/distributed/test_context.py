from __future__ import annotations

import pytest

from dlrm.config.errors import ConfigError
from dlrm.config.trainer import Device
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.device import choose_device

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert ProcessContext.from_environment() == ProcessContext(0, 0, 1)


def test_a_launcher_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch):
    for name, value in zip(VARIABLES, ("5", "1", "8"), strict=True):
        monkeypatch.setenv(name, value)
    assert ProcessContext.from_environment() == ProcessContext(5, 1, 8)


@pytest.mark.parametrize("name", VARIABLES)
def test_what_is_no_number_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "two")
    with pytest.raises(ConfigError, match=f"{name} must be a whole number.*'two'"):
        ProcessContext.from_environment()


def test_the_cpu_can_always_be_chosen():
    assert choose_device(Device.cpu).type == "cpu"
