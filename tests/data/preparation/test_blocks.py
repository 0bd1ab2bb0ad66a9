from __future__ import annotations

import numpy as np
import pytest

from dlrm.data.preparation.blocks import BlockStore, SpentError, perform


def write(store, name="a", value=1):
    with store.writer(name) as out:
        out.append("numbers", np.arange(5, dtype=np.int32))
        out.append("text", b"ab")
        out.append("text", b"c")
        out.finish({"value": value})


def test_sections_and_result_come_back(tmp_path):
    store = BlockStore(tmp_path)
    write(store)
    block = store.find("a")
    assert block.result == {"value": 1}
    assert block.read("text") == b"abc"
    assert block.numbers("numbers", np.int32, 1, 3).tolist() == [1, 2, 3]
    assert block.size("numbers") == 20


def test_nothing_is_there_before_it_is_finished(tmp_path):
    store = BlockStore(tmp_path)
    with store.writer("a") as out:
        out.append("text", b"half")
        assert store.find("a") is None
        out.finish({})
    assert store.find("a") is not None


def test_a_task_that_fails_leaves_nothing(tmp_path):
    class Failing(Adding):
        def make(self, out):
            out.append("text", b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        perform(Failing(BlockStore(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_anywhere_or_with_any_byte_changed_is_not_taken(tmp_path):
    store = BlockStore(tmp_path)
    write(store)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert store.find("a") is None
        assert not path.exists()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 64
        path.write_bytes(changed)
        assert store.find("a") is None


def test_what_is_spent_leaves_its_result_and_no_sections(tmp_path):
    store = BlockStore(tmp_path)
    write(store)
    write(store, name="b/c", value=2)
    store.spend("b/c")
    store.spend("b/c")
    block = store.find("b/c")
    assert block.spent
    assert block.result == {"value": 2}
    for use in (block.names, lambda: block.read("text"), lambda: block.size("text")):
        with pytest.raises(SpentError, match="b%2Fc"):
            use()
    assert not store.find("a").spent
    store.remove_spent()
    assert store.find("b/c") is None
    assert store.find("a").names() == ["numbers", "text"]


class Adding:
    name = "sum"

    def __init__(self, store, holds=True):
        self.store, self.holds, self.num_made = store, holds, 0

    def make(self, out):
        self.num_made += 1
        return {"sum": 3}

    def still_holds(self, result):
        assert result == {"sum": 3}
        return self.holds


def test_a_task_is_done_once_unless_its_result_no_longer_holds(tmp_path):
    store = BlockStore(tmp_path)
    task = Adding(store)
    assert [perform(task), perform(task)] == [{"sum": 3}] * 2
    assert task.num_made == 1
    stale = Adding(store, holds=False)
    assert perform(stale) == {"sum": 3}
    assert stale.num_made == 1
