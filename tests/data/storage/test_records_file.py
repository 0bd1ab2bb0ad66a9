from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from dlrm.config.errors import WriteError
from dlrm.data.storage.records_file import RecordsFile

NUM_ROWS, NUM_WORDS = 9001, 5
RECORDS = np.arange(NUM_ROWS * NUM_WORDS, dtype=np.int32).reshape(NUM_ROWS, NUM_WORDS)
PIECES = ((0, 1), (1, 4100), (4101, 4900))
"""First row and rows."""


def write(file: RecordsFile, first_row: int, num_rows: int) -> int:
    """Write rows that lie scattered in a block, and others between them."""
    columns = np.full((NUM_WORDS, 2 * num_rows), -1, dtype=np.int32)
    columns[:, 1::2] = RECORDS[first_row : first_row + num_rows].T
    return file.write(first_row, columns, np.arange(1, 2 * num_rows, 2))


@pytest.fixture
def file(tmp_path):
    found = RecordsFile(tmp_path / "train" / "shard_00000", NUM_WORDS)
    found.make(NUM_ROWS)
    return found


def test_pieces_written_in_any_order_make_the_file_and_its_crc(file):
    assert file.path.stat().st_size == RECORDS.nbytes
    crc32s = {piece: write(file, *piece) for piece in reversed(PIECES)}
    assert file.path.read_bytes() == RECORDS.tobytes()
    record = file.finish([(crc32s[piece], piece[1]) for piece in PIECES])
    assert record.size == RECORDS.nbytes
    assert record.crc32 == zlib.crc32(RECORDS.tobytes())


def test_to_make_the_file_again_keeps_its_rows(file):
    crc32 = write(file, *PIECES[1])
    file.make(NUM_ROWS)
    assert file.holds(*PIECES[1], crc32)
    assert not file.holds(*PIECES[2], crc32)


def test_no_rows_are_held_anywhere(file):
    assert file.write(7, np.zeros((NUM_WORDS, 3), np.int32), np.arange(0)) == 0
    assert file.holds(7, 0, 0)


def test_a_file_that_is_missing_cut_or_damaged_holds_no_rows(file):
    crc32 = write(file, *PIECES[1])
    whole = file.path.read_bytes()
    last = (PIECES[1][0] + PIECES[1][1]) * NUM_WORDS * 4 - 1
    file.path.write_bytes(whole[:last])
    assert not file.holds(*PIECES[1], crc32)
    file.make(NUM_ROWS)
    # The byte that was cut off is a zero again.
    assert file.holds(*PIECES[1], crc32) == (whole[last] == 0)
    for place in (NUM_WORDS * 4, last):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.path.write_bytes(damaged)
        assert not file.holds(*PIECES[1], crc32)
    file.path.unlink()
    assert not file.holds(*PIECES[1], crc32)


def test_a_full_disk_is_told_with_the_shard(file):
    file.path.unlink()
    file.path.symlink_to("/dev/full")
    with pytest.raises(WriteError, match=r"Writing .*shard_00000 needs free space"):
        write(file, *PIECES[1])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "train").write_text("a file where a folder must be")
    with pytest.raises(WriteError, match=r"train/shard_00000 must be writable"):
        RecordsFile(Path(tmp_path / "train" / "shard_00000"), NUM_WORDS).make(3)
