"""The health of a checkpoint's tables, against the training that made them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dlrm.checkpoints.files import OWN_CHECKSUM, checksum, state_text
from dlrm.config.errors import ConfigError, RunError
from dlrm.explanation.costs import model_loads
from dlrm.explanation.health import check_health, why_unknown
from dlrm.run import Run, find_checkpoint, open_dataset


def health(run: Run, **given) -> dict:
    found = check_health(run, find_checkpoint(run, "best"), **given)
    return {entry["table"]: entry for entry in found["tables"]}


def ids_of_training(run: Run, feature: str) -> np.ndarray:
    rows = open_dataset(run).split("train")
    encoded = rows.slice(0, rows.num_rows)
    names = [fitted.name for fitted in run.schema.one_hot]
    return np.unique(encoded.one_hot[:, names.index(feature)])


@pytest.mark.parametrize("feature", ["shop", "coin", "twin"])
def test_rows_never_trained_are_those_whose_id_never_came(planted: Run, feature: str):
    entry = health(planted)[f"{feature}/linear"]
    seen = ids_of_training(planted, feature)
    assert entry["never_trained"] == entry["rows"] - len(seen)
    assert entry["unknown"] == {}


def test_hashed_tables_tell_of_collisions_and_others_do_not(planted: Run):
    found = health(planted)
    coin = found["coin/linear"]["collisions"]
    seen = ids_of_training(planted, "coin")
    assert (coin["buckets"], coin["used_buckets"]) == (40, len(seen))
    # 30 values were hashed to 40 rows.
    assert coin["expected_ids"] == pytest.approx(30, rel=0.35)
    assert {t for t, e in found.items() if e["collisions"]} == {"coin/linear"}


def broken(run: Run, folder: Path) -> Run:
    """Return a copy of a run whose table ``twin/linear`` was written by hand."""
    copy = folder / "run"
    shutil.copytree(run.folder, copy)
    copied = dataclasses.replace(run, folder=copy)
    checkpoint = find_checkpoint(copied, "best")
    (path,) = (checkpoint / "tables" / "twin%2Flinear").glob("*.safetensors")
    tensors = load_file(path)
    weight = torch.linspace(1, 2, 600)[:, None].contiguous()
    weight[:5], weight[5:8], weight[8], weight[9] = 0, 1.5, float("inf"), 1000
    save_file({**tensors, "weight": weight}, path)
    state = json.loads((checkpoint / "state.json").read_text())
    state["files"][str(path.relative_to(checkpoint))] = checksum(path)
    state.pop(OWN_CHECKSUM)
    (checkpoint / "state.json").write_text(state_text(state))
    return copied


def test_a_table_made_by_hand_is_described_as_it_was_made(planted: Run, tmp_path: Path):
    run = broken(planted, tmp_path)
    entry = health(run)["twin/linear"]
    assert entry["zero_rows"] == 5
    assert entry["duplicate_rows"] == 2
    assert entry["not_finite_rows"] == 1
    assert entry["large_rows"] == 1
    assert entry["never_trained"] == 0
    assert (entry["rows"], entry["dim"], entry["effective_rank"]) == (600, 1, 1.0)
    warnings = check_health(run, find_checkpoint(run, "best"))["warnings"]
    assert warnings[0] == "twin/linear: 1 rows are not finite"
    assert "twin/linear: 1 rows exceed 10 times the median norm" in warnings


def test_a_damaged_checkpoint_and_an_unknown_table_are_refused(
    planted: Run, tmp_path: Path
):
    run = broken(planted, tmp_path)
    path = next(find_checkpoint(run, "best").glob("tables/*/*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(RunError, match="missing or damaged"):
        health(run)
    with pytest.raises(ConfigError, match=r"table must be a table of the run, but"):
        health(planted, table="coyn")


def test_one_table_alone_can_be_asked_for(planted: Run):
    assert list(health(planted, table="shop/linear")) == ["shop/linear"]


def test_where_first_values_are_not_known_the_reason_is_said(planted: Run):
    load = model_loads(planted, {})["shop/linear"]
    assert why_unknown(planted.config, load, "shop") is None
    config = dataclasses.replace(planted.config, init_from="outputs/old")
    reason = why_unknown(config, load, "shop")
    assert reason == "the run started from another run's tables"
