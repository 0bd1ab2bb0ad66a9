"""``dlrm evaluate slices=...``: a trained run, its splits and new files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.main import main
from dlrm.commands.train import train
from dlrm.config.errors import ConfigError
from dlrm.run import Run

HOUR = 3_600
PRESET = """
name: shop
format: table
label: clicked
group_column: user
time_column: at
split: time
keep: [device, price]
dense_features: {price: {}}
sparse_features: {item: {}, device: {}}
"""
SETTINGS = (
    "data=shop", "trainer.num_threads=1", "trainer.global_batch_size=256",
    "logger.tensorboard=false", "model.embedding_dim=4", "model.bottom_mlp=[4]",
    "model.top_mlp=[4]", "model.dropout=0",
)  # fmt: skip


def rows_of(num_rows: int, *, first_hour: int = 0, num_new: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(first_hour)
    items = [f"i{i}" for i in random.integers(0, 20, num_rows)]
    items[:num_new] = [f"new{i}" for i in range(num_new)]
    return pd.DataFrame(
        {
            "clicked": (random.random(num_rows) < 0.4).astype(int),
            "at": (first_hour + np.arange(num_rows) // 30) * HOUR,
            "user": [f"u{i}" for i in random.integers(0, 90, num_rows)],
            "price": random.random(num_rows).round(4),
            "item": items,
            "device": random.choice(["tv", "phone", ""], num_rows),
            "campaign": random.choice(["\x1b[31mred", "<b>blue</b>"], num_rows),
        }
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("shop")
    preset = folder / "conf" / "data" / "shop.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(PRESET)
    place = (f"output={folder}", f"data.prepared={folder}", "run_name=run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows_of(6_000).to_csv("shop.csv", index=False)
        settings = (*SETTINGS, *place, f"data.source={folder / 'shop.csv'}")
        return train(*settings, report=lambda line: None)


def saved(run: Run, name: str) -> dict:
    return json.loads((run.evaluation(name) / "slices.json").read_text())


def keys(found: dict) -> list[str]:
    return [dimension["key"] for dimension in found["dimensions"]]


def test_training_ends_with_slices_by_all_that_is_kept(shop: Run):
    found = saved(shop, "test")
    assert keys(found) == ["time:day", "activity", "user", "device", "bucket:price:10"]
    metrics = json.loads((shop.evaluation("test") / "metrics.json").read_text())
    assert found["total"]["rows"] == metrics["num_examples"] == 600
    for name in ("auc", "log_loss", "calibration", "ece"):
        assert found["total"]["metrics"][name] == pytest.approx(
            metrics[name], abs=1e-12
        )
    for dimension in found["dimensions"]:
        assert sum(entry["rows"] for entry in dimension["slices"]) == 600
    assert found["errors"] == "groups"
    assert found["future"]["leaks"] is False
    assert found["dimensions"][1]["counted"] == "training rows"


def test_slices_that_are_typed_are_those_of_the_splits_own_rows(
    shop: Run, capsys: pytest.CaptureFixture[str]
):
    typed = "slices=device,device*time:hour_of_day,time:hour,bucket:price:4"
    assert main(["evaluate", f"run={shop.folder}", "split=valid", typed]) == 0
    found = saved(shop, "valid")
    assert keys(found) == [
        "device", "device*time:hour_of_day", "time:hour", "bucket:price:4",
    ]  # fmt: skip
    table = pq.read_table(shop.evaluation("valid") / "predictions.parquet").to_pandas()
    sizes = {s["name"]: s["rows"] for s in found["dimensions"][0]["slices"]}
    assert sizes["tv"] == (table["device"] == "tv").sum()
    assert sizes["(missing)"] == (table["device"].fillna("") == "").sum()
    hours = found["dimensions"][2]["slices"]
    assert [entry["rows"] for entry in hours] == [30] * 20
    assert [entry["name"] for entry in hours] == sorted(e["name"] for e in hours)
    assert "looks, Holm at 5%" in capsys.readouterr().out


def test_new_rows_are_sliced_by_any_of_their_columns(
    shop: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = rows_of(1_000, first_hour=500, num_new=200)
    rows.to_csv(tmp_path / "monday.csv", index=False)
    arguments = [f"run={shop.folder}", f"input={tmp_path / 'monday.csv'}"]
    assert main(["evaluate", *arguments, "slices=campaign,item,activity"]) == 0
    found = saved(shop, "monday")
    assert keys(found) == ["campaign", "item", "activity"]
    campaigns = {s["name"]: s["rows"] for s in found["dimensions"][0]["slices"]}
    assert campaigns == rows["campaign"].value_counts().to_dict()
    assert found["dimensions"][1]["num_values"] == 220
    assert found["dimensions"][2]["counted"] == "training rows"
    assert found["future"]["leaks"] is False
    [item, device] = found["cold_start"]["features"]
    assert item["feature"] == "item"
    assert item["share"] == pytest.approx(0.2, abs=0.001)
    assert item["unseen"]["rows"] == 200
    assert device["share"] == 0
    shown = capsys.readouterr().out
    assert "Rows with an id training never saw: 200 (20.00%)" in shown
    assert "\x1b" not in shown
    table = pq.read_table(shop.evaluation("monday") / "predictions.parquet")
    assert table["campaign"].to_pylist() == rows["campaign"].tolist()


def test_a_data_frame_gives_what_its_file_gives(shop: Run, tmp_path: Path):
    rows = rows_of(600, first_hour=900)
    rows.to_csv(tmp_path / "a.csv", index=False)
    for name, source in (("file", tmp_path / "a.csv"), ("frame", rows)):
        evaluate(
            shop.folder,
            input=source,
            name=name,
            slices=["campaign*device"],
            report=lambda line: None,
        )
    assert saved(shop, "file")["dimensions"] == saved(shop, "frame")["dimensions"]


def test_columns_that_are_not_there_are_refused_and_nothing_is_written(
    shop: Run, tmp_path: Path
):
    before = saved(shop, "test")
    with pytest.raises(ConfigError, match=r"'campaign' is not there\. There are: user"):
        evaluate(shop.folder, slices=["campaign"], report=lambda line: None)
    assert saved(shop, "test") == before
    rows_of(50).drop(columns="campaign").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ConfigError, match="'campaign' is not there"):
        evaluate(shop.folder, input=tmp_path / "t.csv", slices=["campaign"])
    assert not shop.evaluation("t").exists()
    with pytest.raises(ConfigError, match=r"slices must be a column or the crossing"):
        evaluate(shop.folder, slices=["a*b*c"])


def test_a_file_that_training_was_ahead_of_is_no_forecast(
    shop: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows_of(90, first_hour=3).to_csv(tmp_path / "old.csv", index=False)
    assert (
        main(["evaluate", f"run={shop.folder}", f"input={tmp_path / 'old.csv'}"]) == 0
    )
    assert saved(shop, "old")["future"]["num_later"] > 4_000
    assert "Not a forecast: " in capsys.readouterr().out


def test_no_slices_at_all(shop: Run):
    arguments = [f"run={shop.folder}", "split=valid", "slices=[]"]
    assert main(["evaluate", *arguments]) == 0
    assert saved(shop, "valid")["dimensions"] == []


def test_a_split_that_leaks_is_refused_before_training(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    preset = workdir / "conf" / "data" / "shop.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(PRESET)
    rows_of(600).to_csv("shop.csv", index=False)
    command = ["train", *SETTINGS, "data.source=shop.csv", "data.split=random"]
    assert main([*command, "evaluation.forbid_future=true"]) == 2
    message = capsys.readouterr().err
    assert "data.split=random" in message
    assert "Set data.split=time" in message
    assert not list(workdir.glob("outputs/*"))
