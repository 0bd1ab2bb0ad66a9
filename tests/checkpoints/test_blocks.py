"""Which rows stand in which file, who writes it, and who sends what."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from dlrm.checkpoints import blocks
from dlrm.checkpoints.blocks import in_rounds, lay_out
from dlrm.checkpoints.row_state import convert_row_state
from dlrm.distributed.plan import Part
from dlrm.embeddings.outline import ColumnKind, TableOutline

KINDS = {
    "sum": ColumnKind(torch.float32, by_row=True),
    "uses": ColumnKind(torch.int32, by_row=True),
    "weight": ColumnKind(torch.float16, by_row=False),
}
ROW_EDGES = {"whole": [0, 23], "rows": [0, 6, 12, 18, 23], "uneven": [0, 1, 22, 23]}
COLUMN_EDGES = {"whole": [0, 8], "columns": [0, 2, 4, 8]}


def outline(name: str, row_edges: list[int], column_edges: list[int]) -> TableOutline:
    """Return a table of 23 rows, its parts on ranks 0 to 3 in turn."""
    ranks = itertools.cycle(range(4))
    parts = [
        Part(next(ranks), row, row_stop - row, column, column_stop - column)
        for column, column_stop in itertools.pairwise(column_edges)
        for row, row_stop in itertools.pairwise(row_edges)
    ]
    return TableOutline(name, 23, 8, 0, KINDS, tuple(parts))


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_FILE_BYTES", 150)


@pytest.mark.parametrize("columns", COLUMN_EDGES)
@pytest.mark.parametrize("rows", ROW_EDGES)
def test_files_hold_every_row_once_and_their_parts_every_value_once(
    rows: str, columns: str
):
    table = outline("t", ROW_EDGES[rows], COLUMN_EDGES[columns])
    found = lay_out([table], with_training=True, world_size=4)
    assert [b.start for b in found[1:]] == [b.stop for b in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, 23)
    for block in found:
        given = {name: torch.zeros_like(t) for name, t in block.empty().items()}
        for piece in block.pieces():
            piece.place(given).add_(1)
        assert given.keys() == {"sum", "uses", "weight", "training"}
        assert all(bool((values == 1).all()) for values in given.values())
        assert block.writer in {piece.part.rank for piece in block.pieces()}


def test_files_of_an_exact_table_depend_on_its_rows_alone():
    # 8 values of 2 bytes, two of 4: 24 bytes a row, 6 rows in 150 bytes.
    for edges in ROW_EDGES.values():
        table = outline("a/b", edges, COLUMN_EDGES["whole"])
        found = lay_out([table], with_training=False, world_size=4)
        assert [block.name for block in found] == [
            f"tables/a%2Fb/rows_{start}_{min(start + 6, 23)}.safetensors"
            for start in range(0, 23, 6)
        ]


def test_each_process_writes_about_as_much():
    table = outline("t", ROW_EDGES["whole"], COLUMN_EDGES["columns"])
    found = lay_out([table] * 6, with_training=False, world_size=4)
    counts = Counter(block.writer for block in found)
    # Three of the four keep some of it.
    assert set(counts) == {0, 1, 2}
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("columns", COLUMN_EDGES)
@pytest.mark.parametrize("rows", ROW_EDGES)
def test_rounds_have_one_block_a_writer_and_bound_what_a_process_sends(
    rows: str, columns: str
):
    table = outline("t", ROW_EDGES[rows], COLUMN_EDGES[columns])
    found = lay_out([table, table], with_training=True, world_size=4)
    rounds = list(in_rounds(found))
    assert [block for together in rounds for block in together] == found
    for together in rounds:
        writers = [block.writer for block in together]
        assert len(writers) == len(set(writers))
        sent: Counter[int] = Counter()
        for block in together:
            for piece in block.pieces():
                if piece.part.rank != block.writer:
                    sent[piece.part.rank] += piece.num_bytes
        assert all(size <= 150 for size in sent.values())


def test_a_model_without_tables_has_no_files():
    assert list(in_rounds(lay_out([], with_training=False, world_size=2))) == [[]]


@pytest.mark.parametrize("edges", [[0, 8], [0, 4, 8], [0, 1, 2, 8], [0, 5, 8]])
@pytest.mark.parametrize("columns", [(0, 8), (0, 4), (4, 8), (1, 6), (5, 8)])
def test_converted_state_is_the_mean_over_the_columns(
    edges: list[int], columns: tuple[int, int]
):
    values = torch.randn(5, len(edges) - 1).square()
    by_column = np.repeat(values.double().numpy(), np.diff(edges), axis=1)
    got = convert_row_state(values, edges, slice(*columns))
    assert got.dtype == torch.float32
    expected = by_column[:, slice(*columns)].mean(axis=1)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_state_of_the_same_columns_keeps_its_bits():
    values = torch.tensor([[0.1, 1e30], [3e-39, 7.0]])
    got = convert_row_state(values, [0, 3, 4], slice(3, 4))
    assert torch.equal(got, values[:, 1])
    assert torch.equal(convert_row_state(got, [0, 4], slice(0, 2)), got)
