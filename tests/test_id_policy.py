"""Ids that a table does not have: counted, or named down to the raw row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.main import main
from dlrm.commands.prepare import prepare
from dlrm.config.errors import BadIdError, DataError
from dlrm.data.loading.whole_batches import WholeBatches
from dlrm.data.preparation.summary import PrepareSummary
from dlrm.run import find_checkpoint, open_dataset
from dlrm.scoring import score_split
from dlrm.trainer import Trainer
from tests.warm_start.growing import rows_of, trainer_of, write_preset

ITEMS = {"a": 20, "b": 12}
ROWS = rows_of({"a": 2, "b": 1, "new": 3}).assign(slot=[0, 4, 5, -1, 7, 2])
"""Three unknown items, and three slots that the five rows do not have."""


@pytest.fixture(autouse=True)
def _preset(workdir: Path) -> None:
    write_preset(workdir)


def trained(*extra: str) -> Trainer:
    trainer, _ = trainer_of(rows_of(ITEMS), "run", "trainer.max_steps=1", *extra)
    trainer.fit()
    return trainer


def predict(rows: pd.DataFrame) -> int:
    rows.to_csv("new.csv", index=False)
    return main(["predict", "run=outputs/run", "input=new.csv", "output=scores.csv"])


@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        ("oov", "sent to row 0"),
        ("clamp", "sent to the nearest row"),
        ("hash", "hashed to a row"),
    ],
)
def test_predict_counts_ids_that_training_never_saw(
    policy: str, sent: str, capsys: pytest.CaptureFixture[str]
):
    trained(f"data.sparse_features.slot.out_of_range={policy}")
    assert predict(ROWS) == 0
    printed = capsys.readouterr().out.splitlines()
    wanted = [
        "item: 3 of 6 ids (50.00%) are outside the vocabulary, sent to row 0",
        f"slot: 3 of 6 ids (50.00%) are outside the table, {sent}",
    ]
    assert printed[:2] == wanted


def test_evaluate_keeps_the_counts_beside_the_metrics():
    run = trained().run
    lines: list[str] = []
    evaluate(run.folder, input=ROWS, name="new", report=lines.append)
    content = json.loads((run.evaluation("new") / "outside_ids.json").read_text())
    assert content == {
        "item": {"num_ids": 6, "num_outside": 3},
        "shop": {"num_ids": 6, "num_outside": 0},
        "slot": {"num_ids": 6, "num_outside": 3},
    }
    assert lines[0].startswith("item: 3 of 6 ids")


def test_prepare_keeps_the_counts_of_each_split():
    parts = {"train": rows_of(ITEMS), "valid": ROWS}
    folder = prepare("data=growing", frame=parts)
    features = PrepareSummary.load(folder).features
    assert features["item"].num_outside == {"train": 0, "valid": 3, "test": 0}
    assert features["slot"].outside == {"train": 0.0, "valid": 0.5}


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("slot", r"'slot' of table 'slot' got '5' in new.csv, line 4, .* rows 0 to 4"),
        ("item", r"'item' of table 'item' got 'new' in new.csv, line 5, .* 2 other"),
    ],
)
def test_the_error_policy_names_value_row_and_file(
    feature: str, message: str, capsys: pytest.CaptureFixture[str]
):
    trained(f"data.sparse_features.{feature}.out_of_range=error")
    assert predict(ROWS) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed
    assert not Path("scores.csv").exists()


@pytest.mark.parametrize("dim", [4, 5], ids=["fbgemm", "torch"])
def test_a_bad_id_of_a_prepared_row_is_traced_to_its_raw_row(dim: int):
    trainer, _ = trainer_of(rows_of(ITEMS), "run", dim=dim)
    batch = next(iter(trainer.train_rows.batches(0)))
    bags = batch.sparse["pooled"]
    place = bags.offset_per_key()[bags.keys().index("item")] + 3
    bags.values()[place] = 99
    raw = int(batch.row_ids[3])
    with pytest.raises(DataError) as caught:
        trainer._train_step(batch)
    assert isinstance(caught.value.__cause__, BadIdError)
    message = str(caught.value)
    assert "'item' of table 'item' must have ids from 0 to 2, but got 99" in message
    item = rows_of(ITEMS)["item"][raw]
    assert f"row {raw + 1}, where 'item' is '{item}'" in message
    assert "of train in" in message


def test_a_bad_id_of_a_judged_split_is_traced_too(monkeypatch: pytest.MonkeyPatch):
    run = trained().run
    dataset, checkpoint = open_dataset(run), find_checkpoint(run, "last")
    whole = WholeBatches.of_split

    def damaged(self, rows):
        for batch in whole(self, rows):
            batch.sparse["pooled"].values()[0] = -1
            yield batch

    monkeypatch.setattr(WholeBatches, "of_split", damaged)
    with pytest.raises(DataError, match=r"got -1 .* prepared as row 0 of train in"):
        score_split(run, dataset, split="train", checkpoint=checkpoint)
