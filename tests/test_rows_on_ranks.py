"""Every row once, whatever the number of rows and of ranks; no end is waited for."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from dlrm.commands.evaluating import evaluate_run
from dlrm.commands.predict import predict_file, predict_rows
from dlrm.config.errors import UserError
from dlrm.config.hardware import HardwareConfig
from dlrm.config.sharding import Strategy
from dlrm.data.batch import Batch
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.loading.whole_batches import WholeBatches
from dlrm.data.storage.split_rows import SplitRows
from dlrm.distributed.job import ALONE, Job
from dlrm.models import build_model, model_config
from dlrm.planning.place import place_tables_of
from dlrm.run import Run
from tests.data.mixed import ONE_HOT, rows_of, schema_of, write_dataset
from tests.embeddings.sharded.ranks import Ranks
from tests.row_runs import (
    BATCH,
    CHUNK,
    KINDS,
    awkward_sizes,
    clicks_frame,
    on_rank,
    small_batches,
    tiny_run,
)

pytestmark = pytest.mark.xdist_group("ranks")


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 9])
def test_training_sees_every_row_once_an_epoch(tmp_path: Path, world_size: int):
    schema = schema_of(ONE_HOT)
    for num_rows in awkward_sizes(BATCH, world_size):
        rows = rows_of(schema, num_rows)
        dataset = write_dataset(tmp_path / f"{num_rows}", schema, {"train": rows})
        loaders = [
            BatchLoader(
                dataset.split("train"),
                schema,
                order=RowOrder(num_rows, seed=1, shuffle=True),
                global_batch_size=BATCH,
                rank=rank,
                world_size=world_size,
            )
            for rank in range(world_size)
        ]
        for epoch in range(2):
            seen: Counter[int] = Counter()
            for step in zip(*(one.batches(epoch) for one in loaders), strict=True):
                assert len({len(batch) for batch in step}) == 1
                for batch in step:
                    is_real = batch.row_ids >= 0
                    seen.update(batch.row_ids[is_real].tolist())
                    assert not batch.weights[~is_real].any()
            assert seen == Counter(range(num_rows))


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a tiny run of each judge's task."""
    return tiny_run(kind, tmp_path_factory.mktemp(kind))


@pytest.fixture
def _small_batches() -> Iterator[None]:
    with small_batches():
        yield


Rows = dict[str, pd.DataFrame | None]
"""By the name of the results; a split's rows are None."""


def evaluated(run: Run, inputs: Rows, job: Job) -> list[tuple[dict[str, Any], int]]:
    """Return the metrics of each input and the number of lines printed."""
    found = []
    for name, rows in inputs.items():
        lines: list[str] = []
        metrics = evaluate_run(
            run, rows, name=name, checkpoint="last", report=lines.append, job=job
        )
        found.append((metrics, len(lines)))
    return found


def files_of(run: Run, name: str) -> dict[str, bytes]:
    """Return what an evaluation wrote, but the report, which names the time."""
    folder = run.evaluation(name)
    names = ("metrics.json", "predictions.parquet", "outside_ids.json")
    return {n: (folder / n).read_bytes() for n in names if (folder / n).exists()}


@pytest.mark.usefixtures("_small_batches")
def test_two_ranks_evaluate_as_one_process(run: Run, kind: str, two_ranks: Ranks):
    sizes = awkward_sizes(BATCH, 2) if kind == "clicks" else [1, 2 * BATCH + 1]
    check_evaluation(run, kind, two_ranks, sizes)


@pytest.mark.usefixtures("_small_batches")
def test_two_ranks_evaluate_more_rows_than_memory_holds(
    click_run: Run, two_ranks: Ranks
):
    little = dataclasses.replace(click_run.config.evaluation, rows_in_memory=BATCH)
    config = dataclasses.replace(click_run.config, evaluation=little)
    small = dataclasses.replace(click_run, config=config)
    inputs: Rows = {"test": None, "rows": KINDS["clicks"][0](3 * BATCH + 1)}
    found = two_ranks.run(on_rank, partial(evaluated, small, inputs))
    paths = [small.evaluation(name) / "predictions.parquet" for name in inputs]
    written = [pq.read_table(path) for path in paths]
    assert found[0] == evaluated(small, inputs, ALONE)
    # Equal rows; how many were written at a time depends on the number of ranks.
    assert written == [pq.read_table(path) for path in paths]


@pytest.mark.slow
@pytest.mark.usefixtures("_small_batches")
def test_four_ranks_evaluate_as_one_process(run: Run, kind: str, four_ranks: Ranks):
    check_evaluation(run, kind, four_ranks, awkward_sizes(BATCH, 4))


def check_evaluation(run: Run, kind: str, ranks: Ranks, sizes: list[int]) -> None:
    frame, _ = KINDS[kind]
    inputs: Rows = {"test": None, **{f"rows{size}": frame(size) for size in sizes}}
    found = ranks.run(on_rank, partial(evaluated, run, inputs))
    files = {name: files_of(run, name) for name in inputs}
    alone = evaluated(run, inputs, ALONE)
    # To the bit, though the run's tables are to be divided by rows in training.
    assert found[0] == alone
    assert found[1:] == [[(m, 0) for m, _ in alone]] * (ranks.world_size - 1)
    for (name, rows), (metrics, _) in zip(inputs.items(), alone, strict=True):
        assert files[name] == files_of(run, name)
        written = pq.read_table(run.evaluation(name) / "predictions.parquet")
        num_rows = run.schema.num_rows(name) if rows is None else len(rows)
        assert written["row"].to_pylist() == list(range(num_rows))
        assert metrics["num_examples"] == num_rows


def scoring_plan(run: Run, job: Job) -> set[Strategy]:
    """Return how the tables of a run lie for scoring."""
    model = build_model(model_config(run.config.model), run.schema)
    plan = place_tables_of(
        model,
        job=job,
        device=torch.device("cpu"),
        optimizer=run.config.optimizer.sparse,
        sharding=run.config.sharding,
        hardware=run.config.hardware,
        global_batch_size=BATCH,
        trainable=False,
    )
    assert plan is not None
    return {table.strategy for table in plan.tables.values()}


def test_tables_are_divided_by_rows_for_scoring_only_where_nothing_else_fits(
    click_run: Run, two_ranks: Ranks
):
    assert click_run.config.sharding.strategy is Strategy.row_wise
    for found in two_ranks.run(on_rank, partial(scoring_plan, click_run)):
        assert Strategy.row_wise not in found
    small = HardwareConfig(on_cpu=True, num_gpus=2, gpus_per_node=2, ddr_gib=1e-6)
    config = dataclasses.replace(click_run.config, hardware=small)
    run = dataclasses.replace(click_run, config=config)
    for found in two_ranks.run(on_rank, partial(scoring_plan, run)):
        assert found == {Strategy.row_wise}
    (metrics, _), *_ = two_ranks.run(on_rank, partial(evaluated, run, {"test": None}))[
        0
    ]
    (alone, _), *_ = evaluated(run, {"test": None}, ALONE)
    assert metrics.keys() == alone.keys()
    assert metrics.get("undefined") == alone.get("undefined")
    for name in alone.keys() - {"intervals", "bayes", *alone.get("undefined", ())}:
        if name != "undefined":
            assert metrics[name] == pytest.approx(alone[name], rel=1e-9), name


def predicted(run: Run, inputs: list[pd.DataFrame], job: Job) -> list[pd.DataFrame]:
    return [predict_rows(run, rows, checkpoint="last", job=job) for rows in inputs]


@pytest.mark.usefixtures("_small_batches")
def test_two_ranks_predict_every_row_as_one_process(
    run: Run, kind: str, two_ranks: Ranks
):
    frame, _ = KINDS[kind]
    sizes = (*awkward_sizes(BATCH, 2), 2 * CHUNK + 1) if kind == "clicks" else (1, 49)
    inputs = [frame(size).drop(columns="clicked") for size in sizes]
    work = partial(predicted, run, inputs)
    first, second = two_ranks.run(on_rank, work)
    assert all(frame.empty for frame in second)
    for found, alone, rows in zip(first, work(ALONE), inputs, strict=True):
        pd.testing.assert_frame_equal(found, alone, check_exact=True)
        assert found["row"].tolist() == list(range(len(rows)))
        assert found["visit"].tolist() == rows["visit"].tolist()
        assert not found.isna().any(axis=None)


def predicted_file(
    run: Run, source: Path | list[Path], target: Path, job: Job
) -> tuple[list[str], str]:
    """Return what was printed and the error; a list has each rank's source."""
    lines: list[str] = []
    own = source[job.rank] if isinstance(source, list) else source
    try:
        predict_file(
            run,
            str(own),
            target,
            checkpoint="last",
            report=lines.append,
            job=job,
        )
    except UserError as error:
        return lines, f"{type(error).__name__}: {error}"
    return lines, ""


@pytest.fixture(scope="module")
def click_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run("clicks", tmp_path_factory.mktemp("one"))


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_predicted_file_is_one_processs_to_the_byte(
    click_run: Run, suffix: str, two_ranks: Ranks, tmp_path: Path
):
    source = tmp_path / "new.csv"
    clicks_frame(101).drop(columns="clicked").to_csv(source, index=False)
    ours, theirs = (tmp_path / f"{name}{suffix}" for name in ("ranks", "alone"))
    (lines, error), others = two_ranks.run(
        on_rank, partial(predicted_file, click_run, source, ours)
    )
    assert (error, others) == ("", ([], ""))
    expected, _ = predicted_file(click_run, source, theirs, ALONE)
    assert ours.read_bytes() == theirs.read_bytes()
    assert [line.replace("ranks", "alone") for line in lines] == expected


def test_a_bad_row_ends_all_ranks_and_leaves_no_file(
    click_run: Run, two_ranks: Ranks, tmp_path: Path
):
    frame = clicks_frame(9).astype({"price": object})
    frame.loc[5, "price"] = "cheap"
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    clicks_frame(9).to_csv(good, index=False)
    frame.to_csv(bad, index=False)
    target = tmp_path / "out.csv"
    for sources in ([bad, bad], [good, bad], [bad, good]):
        found = two_ranks.run(
            on_rank, partial(predicted_file, click_run, sources, target)
        )
        for own, (_, error) in zip(sources, found, strict=True):
            expected = "'price' must be a finite number" if own is bad else "stopped"
            assert expected in error
        assert sorted(tmp_path.iterdir()) == [bad, good]


def test_ranks_that_read_different_rows_are_stopped(
    click_run: Run, two_ranks: Ranks, tmp_path: Path
):
    sources = [tmp_path / "9.csv", tmp_path / "8.csv"]
    for number, source in zip((9, 8), sources, strict=True):
        clicks_frame(number).to_csv(source, index=False)
    found = two_ranks.run(
        on_rank, partial(predicted_file, click_run, sources, tmp_path / "out.csv")
    )
    for _, error in found:
        assert "All processes must read the same input" in error
        assert "by rank: 9, 8" in error
    assert not (tmp_path / "out.csv").exists()


def judged_damaged(run: Run, job: Job) -> str:
    """Return the error of judging a split one id of which no table has."""
    whole = WholeBatches.of_split

    def damaged(self: WholeBatches, rows: SplitRows) -> Iterator[Batch]:
        for batch in whole(self, rows):
            if 3 * BATCH in batch.row_ids.tolist():
                batch.sparse["pooled"].values()[0] = 99
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WholeBatches, "of_split", damaged)
        try:
            evaluated(run, {"test": None}, job)
        except UserError as error:
            return str(error)
    return ""


def test_a_bad_id_is_named_by_the_rank_that_read_it_and_ends_all(
    click_run: Run, two_ranks: Ranks
):
    first, second = two_ranks.run(on_rank, partial(judged_damaged, click_run))
    assert "'user' must have ids from 0 to" not in first
    assert "stopped the job" in first
    assert "Feature 'user' of table 'user' must have ids from 0 to" in second
    assert f"prepared as row {3 * BATCH} of test" in second


def torchrun(*arguments: str) -> tuple[str, str]:
    """Return what two ranks print to standard output and to standard error."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node=2", "-m", "dlrm", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_torchrun_evaluates_and_predicts_as_one_process_does(
    click_run: Run, tmp_path: Path
):
    name = click_run.folder
    evaluated(click_run, {"valid": None}, ALONE)
    expected = files_of(click_run, "valid")
    printed, _ = torchrun("evaluate", f"run={name}", "split=valid", "checkpoint=last")
    assert files_of(click_run, "valid") == expected
    assert printed.count("report  ") == 1

    source = tmp_path / "new.csv"
    clicks_frame(101).to_csv(source, index=False)
    ours, theirs = tmp_path / "ranks.csv", tmp_path / "alone.csv"
    predicted_file(click_run, source, theirs, ALONE)
    printed, _ = torchrun(
        "predict", f"run={name}", f"input={source}", f"output={ours}", "checkpoint=last"
    )
    assert ours.read_bytes() == theirs.read_bytes()
    assert printed.count("101 rows scored with") == 1
