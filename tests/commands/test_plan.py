"""``dlrm plan`` prints, writes and refuses, with no GPU and no data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlrm.commands.main import main

SIZES = (
    "data=criteo_1tb_multi_hot",
    "model=dlrm",
    "model.bottom_mlp=[8]",
    "model.top_mlp=[8]",
    "trainer.global_batch_size=256",
    *(
        f"data.sparse_features.C{number}.num_embeddings=1000"
        for number in (1, 10, 11, 12, 20, 21, 22, 23)
    ),
)
GPUS = ("hardware=h200", "hardware.num_gpus=2")


def run(*arguments: str) -> int:
    return main(["plan", *arguments])


def test_a_plan_is_printed_within_100_columns(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(*SIZES, *GPUS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == ("dlrm on criteo_1tb_multi_hot: 2 processes, global batch 256")
    named = [line.split()[0] for line in lines if line.strip()]
    assert [f"C{number}" for number in range(1, 27)] == [
        name for name in named if name.startswith("C")
    ]
    assert any(line.startswith("Estimated step: ") for line in lines)
    assert "Table sizes are those of the config: the most there can be." in lines
    assert list(workdir.iterdir()) == []


def test_json_holds_every_number(workdir: Path, capsys: pytest.CaptureFixture[str]):
    assert run(*SIZES, *GPUS, "sharding=row_wise", "format=json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True
    assert found["world_size"] == 2
    assert [entry["rank"] for entry in found["ranks"]] == [0, 1]
    for entry in found["ranks"]:
        kinds = {k: v for k, v in entry["device_bytes"].items() if k != "total"}
        assert sum(kinds.values()) == entry["device_bytes"]["total"]
        on_rank = sum(
            part["num_rows"] * part["num_columns"] * 4
            for table in found["tables"]
            for part in table["parts"]
            if part["rank"] == entry["rank"]
        )
        assert kinds["weights"] == on_rank
        terms = {k: v for k, v in entry["step_ms"].items() if k != "total"}
        assert entry["largest_term"] == max(terms, key=lambda name: terms[name])
    assert {table["strategy"] for table in found["tables"]} == {"row_wise"}


def test_files_are_written_whole_and_the_page_needs_nothing(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(*SIZES, *GPUS, "output=plan.html") == 0
    page = (workdir / "plan.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    for number in range(1, 27):
        assert f"C{number}\n" in page
    assert run(*SIZES, *GPUS, "output=plan.json") == 0
    assert json.loads((workdir / "plan.json").read_text())["fits"] is True
    assert sorted(path.name for path in workdir.iterdir()) == [
        "plan.html",
        "plan.json",
    ]


def test_bags_may_be_told_the_length_of(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(*SIZES, *GPUS, "bag_lengths=C1:7.5", "format=json") == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [table["ids_per_example"] for table in tables[:3]] == [7.5, 2.0, 1.0]


def test_what_does_not_fit_is_explained_and_nothing_is_written(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    tiny = ("hardware.hbm_gib=0.001", "hardware.reserved=0")
    assert run(*SIZES, *GPUS, *tiny, "output=plan.html") == 2
    error = capsys.readouterr().err
    assert error.startswith("dlrm plan: error: The tables must fit into")
    assert "What would help:" in error
    assert "The planner's own reasoning:" in error

    told = "sharding=table_wise"
    assert run(*SIZES, *GPUS, *tiny, told, "output=plan.html") == 2
    captured = capsys.readouterr()
    assert "Estimated step" in captured.out
    assert "Largest parts on rank" in captured.err
    assert "too much" in captured.err
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=csv"], "format must be text or json, but it is 'csv'"),
        (["output=plan.pdf"], "output must end in .json or .html"),
        (["output=no/plan.html"], "but no does not. Make it"),
        (["bag_lengths=C1"], "such as genres:3,tags:12, but it holds 'C1'"),
        (["bag_lengths=C1:-1"], "but it holds 'C1:-1'"),
        ([*SIZES, *GPUS, "bag_lengths=C99:3"], "there is no 'C99'"),
        (["hardware=h900"], "hardware must be one of a100, a100_40gb"),
        (["hardware.num_gpus=0"], "hardware.num_gpus must be >= 1"),
        (["data=synthetic"], "counted in the data, which is not prepared"),
        (["sharding=diagonal"], "sharding must be one of auto, column_wise"),
        (
            [*SIZES, *GPUS, "sharding=column_wise"],
            "'C1' with optimizer rowwise_adagrad",
        ),
        (
            [*SIZES, "hardware=cpu", "sharding.storage=fused_uvm"],
            "'C1' cannot have storage=fused_uvm",
        ),
    ],
)
def test_what_cannot_be_planned_is_one_message(
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dlrm plan: error: ")
    assert message in captured.err
    assert list(workdir.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hardware", "num_gpus"), [("a100", 8), ("h100", 8), ("h200", 1), ("h200", 16)]
)
def test_mlperfs_model_is_planned(
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    hardware: str,
    num_gpus: int,
):
    line = ["experiment=mlperf_dcnv2", f"hardware={hardware}", "format=json"]
    assert run(*line, f"hardware.num_gpus={num_gpus}") == 0
    found = json.loads(capsys.readouterr().out)
    weights = [entry["device_bytes"]["weights"] for entry in found["ranks"]]
    replicated = sum(
        (len(table["parts"]) - 1) * table["num_rows"] * 128 * 4
        for table in found["tables"]
        if table["strategy"] == "data_parallel"
    )
    assert sum(weights) - replicated == 204_184_588 * 128 * 4


@pytest.mark.slow
def test_mlperfs_model_does_not_fit_one_gpu_of_80_gb(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("experiment=mlperf_dcnv2", "hardware=h100") == 2
    error = capsys.readouterr().err
    assert "processes or more" in error
    assert "rows a table (num_embeddings)" in error
