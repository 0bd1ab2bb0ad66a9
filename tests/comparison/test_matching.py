"""Models are compared on the same rows, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlrm.comparison.matching import MatchedModels, Model, match_models
from dlrm.comparison.sources import ColumnNames
from dlrm.config.errors import DataError
from tests.comparison.files import frame


def written(folder: Path, **frames: pd.DataFrame) -> list[Model]:
    """Write one model a frame, in order."""
    models = []
    for name, content in frames.items():
        path = folder / f"{name}.parquet"
        content.to_parquet(path)
        models.append(Model(name, (path,)))
    return models


def match(models: list[Model], **names: object) -> MatchedModels:
    return match_models(models, ColumnNames(**names), split="test")


def test_rows_in_another_order_are_put_into_that_of_the_baseline(tmp_path: Path):
    ours = frame(seed=1)
    mixed = ours.sample(frac=1, random_state=3)
    found = match(written(tmp_path, old=frame(), new=mixed), group="user")
    np.testing.assert_array_equal(found.scores[1].scores[0], ours["logit"])
    np.testing.assert_array_equal(found.rows.labels, ours["label"] == 1)
    assert found.matched_by == "row"
    assert found.group == "user"
    assert found.rows.groups is not None
    users = found.kept.column("user").to_pylist()
    assert users == ours["user"].tolist()
    # Codes are the same where users are, and only there.
    pairs = {*zip(users, found.rows.groups.tolist(), strict=True)}
    assert len(pairs) == len({*users}) == len({*found.rows.groups.tolist()})


def test_ids_of_another_type_are_compared_as_text(tmp_path: Path):
    as_text = frame(seed=1).assign(row=lambda rows: rows["row"].astype(str))
    found = match(written(tmp_path, old=frame(), new=as_text[::-1]))
    np.testing.assert_array_equal(found.scores[1].scores[0], frame(seed=1)["logit"])


def test_without_ids_rows_are_matched_by_place_and_label(tmp_path: Path):
    bare = frame(seed=1)[["label", "logit"]]
    found = match(written(tmp_path, old=frame(), new=bare))
    assert found.matched_by == "place in the file"
    with pytest.raises(DataError, match=r"another one than .*: ids"):
        match(written(tmp_path, old=frame(), new=bare[::-1]))
    with pytest.raises(DataError, match=r"another one than .*: rows"):
        match(written(tmp_path, old=bare, new=bare[::-1]))
    with pytest.raises(DataError, match=r"has 400 and .* has 399.*id=COLUMN"):
        match(written(tmp_path, old=frame(), new=bare[:-1]))


def test_other_rows_are_counted_and_the_first_named(tmp_path: Path):
    shifted = frame(seed=1).assign(row=lambda rows: rows["row"] + 5)
    with pytest.raises(DataError) as error:
        match(written(tmp_path, old=frame(), new=shifted))
    text = str(error.value)
    assert f"5 of {tmp_path / 'old.parquet'} are not in" in text
    assert "(0, 1, 2, ...)" in text
    assert "(400, 401, 402, ...)" in text
    with pytest.raises(DataError, match=r"1 of .*old.* are not in .*new.* \(399\)\."):
        match(written(tmp_path, old=frame(), new=frame()[:-1]))


def test_other_labels_are_counted_and_the_first_named(tmp_path: Path):
    wrong = frame()
    wrong.loc[[7, 9], "label"] = 1 - wrong.loc[[7, 9], "label"]
    with pytest.raises(DataError, match=r"gives 2 of 400 another .*: ids 7, 9\. "):
        match(written(tmp_path, old=frame(), new=wrong))


@pytest.mark.parametrize("place", [0, 1])
def test_an_id_that_comes_twice_is_refused(tmp_path: Path, place: int):
    frames = [frame(), frame()]
    frames[place].loc[3, "row"] = 4
    with pytest.raises(DataError, match=r"1 ids stand in several rows \(4\)"):
        match(written(tmp_path, old=frames[0], new=frames[1]))


def test_a_missing_id_is_refused(tmp_path: Path):
    names = frame().assign(name=[None, *map(str, range(399))])
    with pytest.raises(DataError, match="1 have none. Name another column"):
        match(written(tmp_path, old=names, new=names), id="name")


def test_weights_are_those_of_the_files_that_have_them(tmp_path: Path):
    weights = np.random.default_rng(0).uniform(1, 2, 400)
    weighted = frame().assign(weight=weights)
    found = match(written(tmp_path, old=frame(), new=weighted[::-1]))
    np.testing.assert_array_equal(found.rows.weights, weights)
    other = frame().assign(weight=weights * ([1.0] * 399 + [2.0]))
    with pytest.raises(DataError, match="gives 1 another one than"):
        match(written(tmp_path, old=weighted, new=other))


def test_a_column_that_no_file_has_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"column 'country' must be in one .*data.keep"):
        match(written(tmp_path, old=frame(), new=frame()), kept=("country",))


def test_no_rows_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="must hold rows, but it has none"):
        match(written(tmp_path, old=frame()[:0], new=frame()))
