"""New rows of a run are held to the contract of its training rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dlrm.config.contract import Check, ChecksConfig, Severity
from dlrm.config.data import Split
from dlrm.config.errors import DataError
from dlrm.data.contract.columns import raw_columns
from dlrm.data.contract.enforcement import InputChecks
from dlrm.data.preparation.prepare import iter_encoded, prepare_dataset
from dlrm.data.sources import open_source
from dlrm.data.transforms.fitted import FittedTransforms
from tests.data.contract.clean import clean_log, log_config
from tests.data.contract.mutations import MUTATIONS

OF_NEW_ROWS = {
    "out_of_range", "new_categories", "dense_drift", "categorical_drift", "label_shift",
    "missing_share", "duplicate_rows", "duplicate_ids", "time_overlap",
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    data = log_config(folder)
    return data, prepare_dataset(data, frame=clean_log(1))


def rows_of_test(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["part"] == "test"]
    return rows.drop(columns="part").reset_index(drop=True)


def checked(prepared, frame, *, with_labels=True, **checks):
    """Encode rows as scoring does; return the findings by kind."""
    data, folder = prepared
    data = dataclasses.replace(data, checks=ChecksConfig(**checks))
    transforms = FittedTransforms.load(folder)
    found = InputChecks(
        folder, data, transforms.schema, name="monday", with_labels=with_labels
    )
    new = dataclasses.replace(data, split=Split.source, split_column=None)
    found.see_columns(raw_columns(new, frame))
    source = open_source(new, frame, with_labels=False)
    for _ in iter_encoded(new, transforms, source, with_labels, None, found):
        pass
    found.finish(silent=True)
    return found.found


def kinds(findings):
    return {finding["kind"] for finding in findings}


def test_rows_like_those_of_training_have_no_finding(prepared):
    assert checked(prepared, rows_of_test(clean_log(1))) == []
    assert checked(prepared, rows_of_test(clean_log(1)), with_labels=False) == []


@pytest.mark.parametrize(
    ("kind", "mutate"),
    [case for case in MUTATIONS if case[0] in OF_NEW_ROWS],
    ids=[mutate.__name__ for kind, mutate in MUTATIONS if kind in OF_NEW_ROWS],
)
def test_a_mutation_of_new_rows_raises_its_finding_and_no_other(prepared, kind, mutate):
    frame = clean_log(1)
    mutate(frame)
    found = checked(prepared, rows_of_test(frame))
    assert kinds(found) == {kind}, found
    assert all(finding["rows"] == "monday" for finding in found)


def test_an_extra_column_is_found(prepared):
    frame = rows_of_test(clean_log(1)).assign(unheard_of=1)
    (found,) = checked(prepared, frame)
    assert (found["kind"], found["feature"]) == ("extra_column", "unheard_of")


def test_a_column_of_another_kind_is_found(prepared):
    frame = rows_of_test(clean_log(1))
    frame["price"] = frame["price"].astype(str)
    (found,) = checked(prepared, frame)
    assert (found["kind"], found["feature"]) == ("column_type", "price")
    assert "text, in training numbers" in found["message"]


def test_a_missing_column_is_an_error_unless_asked_otherwise(prepared):
    frame = rows_of_test(clean_log(1)).drop(columns="age")
    with pytest.raises(DataError, match="'age'"):
        checked(prepared, frame)
    warn = {"missing_column": Check(severity=Severity.warn)}
    found = checked(prepared, frame, **warn)
    assert kinds(found) == {"missing_column", "missing_share"}
    assert {finding["feature"] for finding in found} == {"age"}


def test_a_missing_bag_is_filled_with_empty_ones(prepared):
    frame = rows_of_test(clean_log(1)).drop(columns="tags")
    warn = {"missing_column": Check(severity=Severity.warn)}
    found = checked(prepared, frame, **warn)
    assert "missing_column" in kinds(found)


def test_a_finding_of_severity_error_stops(prepared):
    frame = clean_log(1)
    dict((m.__name__, m) for _, m in MUTATIONS)["missing_number"](frame)
    limit = {"missing_share": Check(severity=Severity.error, threshold=0.1)}
    with pytest.raises(DataError) as caught:
        checked(prepared, rows_of_test(frame), **limit)
    message = str(caught.value)
    assert "missing_share: feature 'age' of the monday rows" in message
    assert "at most 0.1 of" in message
    assert "missing in 3" in message


def test_few_rows_are_not_measured(prepared):
    frame = rows_of_test(clean_log(1)).head(5)
    frame["price"] = np.nan
    assert checked(prepared, frame) == []


def test_a_folder_from_before_there_were_contracts_is_not_checked(prepared, tmp_path):
    data, folder = prepared
    schema = FittedTransforms.load(folder).schema
    found = InputChecks(tmp_path, data, schema, name="old", with_labels=True)
    found.finish(silent=True)
    assert found.found == []
