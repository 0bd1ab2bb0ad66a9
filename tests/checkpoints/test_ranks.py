"""A checkpoint that any number of ranks write, any other reads, to the bit."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from dlrm.checkpoints import save
from dlrm.checkpoints.rotation import list_checkpoints
from dlrm.config.errors import OtherRankError, RunError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableDtype, TableOptions
from tests.checkpoints.ranks_of import (
    Layout,
    Tables,
    Trainee,
    stage,
    stored_tables,
)
from tests.embeddings.sharded.cases import Case
from tests.embeddings.sharded.ranks import Ranks
from tests.runs import digest

pytestmark = pytest.mark.xdist_group("ranks")
NAMES = SparseOptimizerName
LOCAL = Layout()


def case_of(name: SparseOptimizerName, options: TableOptions | None = None) -> Case:
    optimizer = SparseOptimizer(name=name, lr=0.02, eps=1e-3)
    return Case(optimizer=optimizer, options=options or TableOptions())


def laid(strategy: Strategy, **others: Strategy) -> Layout:
    return Layout({"a": strategy, "c": Strategy.table_wise, **others})


ROWS = (
    laid(Strategy.row_wise, d=Strategy.data_parallel),
    laid(Strategy.table_row_wise, c=Strategy.row_wise),
)
COLUMNS = (
    laid(Strategy.column_wise, c=Strategy.row_wise),
    laid(Strategy.grid, c=Strategy.table_column_wise, d=Strategy.data_parallel),
)
MIXED = (
    laid(Strategy.data_parallel, c=Strategy.column_wise),
    laid(Strategy.column_wise, c=Strategy.table_row_wise),
)
PLANS = {"rows": ROWS, "columns": COLUMNS, "mixed": MIXED}
EXACT = [
    (NAMES.adagrad, "columns"), (NAMES.adam, "mixed"), (NAMES.rowwise_adagrad, "rows"),
]  # fmt: skip
MORE = [
    (NAMES.adagrad, "rows"), (NAMES.adagrad, "mixed"), (NAMES.adam, "columns"),
    (NAMES.sgd, "columns"), (NAMES.partial_rowwise_adam, "rows"),
    (NAMES.lamb, "rows"), (NAMES.partial_rowwise_lamb, "rows"),
    (NAMES.lars_sgd, "rows"),
]  # fmt: skip
EXACT_CASES = [
    *EXACT,
    *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE),
]


def chain(
    tmp_path: Path,
    case: Case,
    layouts: tuple[Layout, Layout],
    two: Ranks,
    four: Ranks,
    decay: float | None = None,
) -> None:
    """Train on 1, 2, 4 and 1 ranks in turn; compare every checkpoint to the bit."""
    roots = {"trained": str(tmp_path / "0")}
    before = [stage(None, case, LOCAL, 1, roots, decay)]
    places: list[tuple[Ranks | None, Layout]] = [
        (two, layouts[0]), (four, layouts[1]), (None, LOCAL),
    ]  # fmt: skip
    for number, (ranks, layout) in enumerate(places, start=2):
        (given,) = list_checkpoints(Path(roots["trained"]))
        roots = {
            "given": str(given),
            "again": str(tmp_path / f"again{number}"),
            "trained": str(tmp_path / str(number)),
        }
        if ranks is None:
            after = [stage(None, case, layout, number, roots, decay)]
        else:
            after = ranks.run(stage, case, layout, number, roots, decay)
        for passed in after:
            assert_equal(passed.loaded, before[0].trained)
            assert passed.lines == []
        assert digest(Path(roots["again"])) == digest(given.parent)
        (written,) = list_checkpoints(Path(roots["trained"]))
        assert changed(passed.loaded, passed.trained)
        if decay is None:
            assert_equal(stored_tables(written, ["a", "c", "d"]), passed.trained)
        before = after


def assert_equal(found: Tables, expected: Tables) -> None:
    assert found.keys() == expected.keys() == {"a", "c", "d"}
    for table, columns in expected.items():
        assert found[table].keys() == columns.keys()
        for name, values in columns.items():
            np.testing.assert_array_equal(found[table][name], values, f"{table} {name}")


def changed(first: Tables, second: Tables) -> bool:
    """Say whether every table's every column differs somewhere."""
    return all(
        not np.array_equal(values, second[table][name])
        for table, columns in first.items()
        for name, values in columns.items()
    )


@pytest.mark.parametrize(("name", "plans"), EXACT_CASES)
def test_one_two_four_and_one_ranks_hand_a_checkpoint_on_to_the_bit(
    name: SparseOptimizerName,
    plans: str,
    tmp_path: Path,
    two_ranks: Ranks,
    four_ranks: Ranks,
):
    chain(tmp_path, case_of(name), PLANS[plans], two_ranks, four_ranks)


@pytest.mark.parametrize("dtype", [TableDtype.float16, TableDtype.bfloat16])
def test_sixteen_bit_rows_and_counts_of_uses_are_handed_on_too(
    dtype: TableDtype, tmp_path: Path, two_ranks: Ranks, four_ranks: Ranks
):
    case = case_of(NAMES.adagrad, TableOptions(dtype=dtype, admit_after=1))
    chain(tmp_path, case, COLUMNS, two_ranks, four_ranks)


def test_averages_and_the_weights_training_goes_on_with_are_handed_on(
    tmp_path: Path, two_ranks: Ranks, four_ranks: Ranks
):
    chain(tmp_path, case_of(NAMES.adam), COLUMNS, two_ranks, four_ranks, decay=0.5)
    stored = stored_tables(tmp_path / "3" / "step_000000003", ["a", "c", "d"])
    for columns in stored.values():
        assert not np.array_equal(columns["training"], columns["weight"])


def column_wise(num_ranges: int) -> Layout:
    """Return the plan of a row-wise optimizer that is not what one process trains."""
    layout = laid(Strategy.column_wise, c=Strategy.row_wise)
    return replace(layout, exact=False, ranges={"a": num_ranges})


WIDE = replace(case_of(NAMES.rowwise_adagrad), embedding_dim=12)


def test_state_of_ranges_of_columns_goes_on_under_the_same_plan_to_the_bit(
    tmp_path: Path, two_ranks: Ranks, four_ranks: Ranks
):
    first = {"trained": str(tmp_path / "1")}
    two_ranks.run(stage, WIDE, column_wise(2), 1, first)
    (given,) = list_checkpoints(tmp_path / "1")
    for ranks, name in ((two_ranks, "two"), (four_ranks, "four")):
        roots = {
            "given": str(given),
            "again": str(tmp_path / name / "again"),
            "trained": str(tmp_path / name / "2"),
        }
        for passed in ranks.run(stage, WIDE, column_wise(2), 2, roots):
            assert passed.lines == []
        assert digest(tmp_path / name / "again") == digest(tmp_path / "1")
    state = json.loads((given / "state.json").read_text())
    assert state["tables"]["a"] == {"step": 0, "row_state_columns": {"sum": [0, 8, 12]}}
    assert state["tables"]["c"] == {"step": 0}
    assert stored_tables(given, ["a"])["a"]["sum"].shape == (11, 2)


def test_state_of_other_ranges_is_their_mean_over_the_columns_and_is_told(
    tmp_path: Path, two_ranks: Ranks, four_ranks: Ranks
):
    four_ranks.run(stage, WIDE, column_wise(3), 1, {"trained": str(tmp_path / "1")})
    (given,) = list_checkpoints(tmp_path / "1")
    sums = stored_tables(given, ["a"])["a"]["sum"].astype(np.float64)
    assert sums.shape == (11, 3)

    local = Trainee(WIDE, LOCAL, None)
    local.load(given)
    np.testing.assert_allclose(local.tables()["a"]["sum"], sums.mean(1), rtol=1e-6)
    assert local.lines == [
        "state   a: sum of columns 0-3, 4-7, 8-11 became that of 0-11, by mean over "
        "the columns"
    ]

    halves = {"given": str(given), "again": str(tmp_path / "again")}
    halves["trained"] = str(tmp_path / "2")
    told = [p.lines for p in two_ranks.run(stage, WIDE, column_wise(2), 2, halves)]
    assert told == [
        [
            "state   a: sum of columns 0-3, 4-7, 8-11 became that of 0-7, 8-11, by "
            "mean over the columns"
        ],
        [],
    ]
    (again,) = list_checkpoints(tmp_path / "again")
    columns = stored_tables(again, ["a"])["a"]
    expected = np.stack([sums[:, :2].mean(1), sums[:, 2]], axis=1)
    np.testing.assert_allclose(columns["sum"], expected, rtol=1e-6)
    np.testing.assert_array_equal(columns["sum"][:, 1], sums[:, 2])


def test_one_process_gives_every_range_of_columns_its_state_and_says_so(
    tmp_path: Path, two_ranks: Ranks
):
    roots = {"trained": str(tmp_path / "1")}
    trained = stage(None, WIDE, LOCAL, 1, roots).trained["a"]
    (given,) = list_checkpoints(tmp_path / "1")
    roots = {
        "given": str(given),
        "again": str(tmp_path / "again"),
        "trained": str(tmp_path / "2"),
    }
    first, second = two_ranks.run(stage, WIDE, column_wise(2), 2, roots)
    assert first.lines == [
        "state   a: sum of columns 0-11 became that of 0-7, 8-11, by mean over the "
        "columns"
    ]
    assert second.lines == []
    (again,) = list_checkpoints(tmp_path / "again")
    columns = stored_tables(again, ["a"])["a"]
    np.testing.assert_array_equal(columns["weight"], trained["weight"])
    np.testing.assert_array_equal(columns["sum"], trained["sum"][:, None].repeat(2, 1))


def evaluate(group: dist.ProcessGroup | None, layout: Layout, given: str) -> Tables:
    trainee = Trainee(case_of(NAMES.adam), layout, group, trainable=False)
    trainee.load(given, weights_only=True)
    return trainee.tables()


def test_a_model_that_only_predicts_reads_the_weights_under_any_plan(
    tmp_path: Path, two_ranks: Ranks
):
    trained = stage(None, case_of(NAMES.adam), LOCAL, 1, {"trained": str(tmp_path)})
    (given,) = list_checkpoints(tmp_path)
    expected = {
        name: {"weight": columns["weight"]} for name, columns in trained.trained.items()
    }
    assert_equal(evaluate(None, LOCAL, str(given)), expected)
    for tables in two_ranks.run(evaluate, COLUMNS[0], str(given)):
        assert_equal(tables, expected)


def try_to_load(group: dist.ProcessGroup, case: Case, given: list[str]) -> str:
    trainee = Trainee(case, ROWS[0], group)
    with pytest.raises(RunError) as refused:
        trainee.load(given[group.rank() % len(given)])
    return str(refused.value)


def test_what_one_rank_finds_damaged_every_rank_refuses_in_the_same_words(
    tmp_path: Path, two_ranks: Ranks
):
    case = case_of(NAMES.adagrad)
    stage(None, case, LOCAL, 1, {"trained": str(tmp_path)})
    (given,) = list_checkpoints(tmp_path)
    for path in sorted(given.rglob("*.safetensors")):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        name = path.relative_to(given)
        words = f"Checkpoint {given} must be whole, but {name} is missing or damaged. "
        first, second = two_ranks.run(try_to_load, case, [str(given)])
        assert first == second
        assert words in first
        path.write_bytes(content)
    (given / "state.json").write_text("{")
    first, second = two_ranks.run(try_to_load, case, [str(given)])
    assert first == second
    assert "state.json is missing or damaged" in first


def test_what_does_not_fit_one_ranks_part_every_rank_refuses(
    tmp_path: Path, two_ranks: Ranks
):
    stage(None, case_of(NAMES.adagrad), LOCAL, 1, {"trained": str(tmp_path)})
    (given,) = list_checkpoints(tmp_path)
    first, second = two_ranks.run(try_to_load, case_of(NAMES.adam), [str(given)])
    assert first == second
    assert "must hold 'a.exp_avg' of shape [4, 4], but it holds nothing" in first
    more = replace(case_of(NAMES.adagrad), num_embeddings=12)
    first, second = two_ranks.run(try_to_load, more, [str(given)])
    assert first == second
    assert "Table 'a' must have 12 rows" in first


def test_a_checkpoint_that_a_rank_does_not_see_is_refused(
    tmp_path: Path, two_ranks: Ranks
):
    case = case_of(NAMES.adagrad)
    stage(None, case, LOCAL, 1, {"trained": str(tmp_path)})
    (given,) = list_checkpoints(tmp_path)
    elsewhere = str(tmp_path / "elsewhere")
    first, second = two_ranks.run(try_to_load, case, [str(given), elsewhere])
    assert first == second
    assert first == (
        f"The run directory must be on a file system that all processes share, but "
        f"process 1 does not see {elsewhere}."
    )


def save_elsewhere(group: dist.ProcessGroup, roots: list[str]) -> str:
    trainee = Trainee(case_of(NAMES.adagrad), ROWS[0], group)
    usual, save.SECONDS_TO_SEE = save.SECONDS_TO_SEE, 0.1
    try:
        with pytest.raises(RunError) as refused:
            trainee.save(roots[group.rank()], 1)
    finally:
        save.SECONDS_TO_SEE = usual
    return str(refused.value)


def test_ranks_that_write_to_different_folders_are_refused(
    tmp_path: Path, two_ranks: Ranks
):
    roots = [str(tmp_path / "here"), str(tmp_path / "there")]
    first, second = two_ranks.run(save_elsewhere, roots)
    assert first == second
    assert first == (
        f"The run directory must be on a file system that all processes share, but "
        f"process 1 does not see in {roots[1]} what process 0 writes there. Set output "
        f"to a shared folder."
    )
    assert list((tmp_path / "here").iterdir()) == []
    assert not (tmp_path / "there").exists()


def fill_the_disk(
    group: dist.ProcessGroup, root: str, rank: int, call: int
) -> tuple[str, str, list[str]]:
    """Save while one rank's ``call``th file finds no space; then save again."""
    trainee = Trainee(case_of(NAMES.adagrad), COLUMNS[0], group)
    usual, calls = save.save_file, [0]

    def full(*args: Any) -> None:
        calls[0] += 1
        if group.rank() == rank and calls[0] == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(*args)

    save.save_file = full
    try:
        with pytest.raises((OSError, OtherRankError)) as refused:
            trainee.save(root, 2)
    finally:
        save.save_file = usual
    trainee.job.barrier()
    left = sorted(path.name for path in Path(root).iterdir())
    trainee.job.barrier()
    trainee.save(root, 2)
    return type(refused.value).__name__, str(refused.value), left


@pytest.mark.parametrize(("rank", "call"), [(0, 1), (1, 1), (1, 3), (0, -1)])
def test_a_full_disk_of_one_rank_leaves_nothing_half_and_stops_all(
    rank: int, call: int, tmp_path: Path, two_ranks: Ranks
):
    root = tmp_path / "checkpoints"
    stage(None, case_of(NAMES.adagrad), LOCAL, 1, {"trained": str(root)})
    before = digest(root)
    if call < 0:
        # The first rank's last file is that of the dense tensors.
        (given,) = list_checkpoints(root)
        call = len(list(given.rglob("rows_*"))) // 2 + 1
    found = two_ranks.run(fill_the_disk, str(root), rank, call)
    kinds = [kind for kind, _, _ in found]
    assert kinds[rank] == "WriteError"
    assert kinds[1 - rank] == OtherRankError.__name__
    assert "No space left on device" in found[rank][1]
    assert all(left == ["step_000000001"] for _, _, left in found)
    after = digest(root)
    assert {name: after[name] for name in before} == before
    assert [path.name for path in list_checkpoints(root)][-1] == "step_000000002"
