from __future__ import annotations

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import skew

from dlrm.data.profiling.delimited_bags import find_delimiter
from dlrm.data.profiling.guess import Role, guess_group, guess_roles
from dlrm.data.profiling.inspect import inspect_table
from dlrm.data.profiling.preset import feature_names
from dlrm.data.sources.chunk import Chunk

NUM_ROWS = 400


def inspect(columns, num_chunks=3):
    """Profile columns that come in several chunks."""
    table = pa.table(columns)
    size = -(-table.num_rows // num_chunks)
    parts = [table.slice(at, size) for at in range(0, table.num_rows, size)]
    lines = np.arange(table.num_rows)
    return inspect_table(Chunk(part, "t", lines[: part.num_rows]) for part in parts)


def guess(values, name="column"):
    """The role and settings guessed for one column."""
    draw = random.Random(0)
    label = [draw.choice("01") for _ in values]
    profile = inspect({name: values, "y": label})
    found = {g.column.name: g for g in guess_roles(profile, label="y")}[name]
    return found.role, found.settings, found.reason


def draws(choose):
    draw = random.Random(1)
    return [choose(draw, row) for row in range(NUM_ROWS)]


def test_counts_agree_with_the_values_whatever_the_chunks():
    values = draws(lambda draw, row: draw.choice([None, "1", "2.5", "-3e2"]))
    column = inspect({"x": values}, num_chunks=7).columns["x"]
    numbers = np.array([float(value) for value in values if value is not None])
    assert (column.kind, column.num_distinct) == ("number", 3)
    assert column.num_missing == values.count(None)
    assert (column.minimum, column.maximum) == (-300, 2.5)
    assert column.skewness == pytest.approx(skew(numbers))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", " 3 "], "integer"),
        (["1", "2.", ".5", "1e-3"], "number"),
        (["1", "x"], "text"),
        (["2020-01-31", "2020-01-31 23:59:59Z"], "date"),
        ([True, False], "boolean"),
        ([1.0, 2.0], "integer"),
        ([1.5, None], "number"),
        ([[1, 2], []], "list"),
        ([None, None], "text"),
        (["1", "2", "0x3"], "text"),
    ],
)
def test_a_column_s_kind_is_what_all_its_values_are(values, kind):
    assert inspect({"x": values}, num_chunks=2).columns["x"].kind == kind


def test_ids_and_times_are_no_features():
    assert guess([f"r{row}" for row in range(NUM_ROWS)])[0] is Role.id
    assert guess(list(map(str, range(NUM_ROWS))))[0] is Role.id
    epoch = draws(lambda draw, row: str(1_600_000_000 + draw.randrange(10**6)))
    assert guess(epoch)[0] is Role.time
    assert (
        guess(draws(lambda draw, row: f"2020-01-{draw.randrange(10, 30)}"))[0]
        is Role.time
    )


def test_one_id_and_one_time_are_taken():
    ids = [f"r{row}" for row in range(NUM_ROWS)]
    profile = inspect({"a": ids, "b": ids, "y": ["0", "1"] * (NUM_ROWS // 2)})
    roles = [guess.role for guess in guess_roles(profile, label="y")]
    assert roles == [Role.id, Role.ignored, Role.label]


def test_few_whole_numbers_are_categories_and_many_are_amounts():
    assert guess(draws(lambda draw, row: str(draw.randrange(12))))[0] is Role.sparse
    amounts = draws(lambda draw, row: str(draw.randrange(300)))
    assert guess(amounts)[0] is Role.dense
    assert guess(amounts, name="shop_id")[0] is Role.sparse
    assert guess([f"0{amount}" for amount in amounts])[0] is Role.sparse


def test_long_tails_are_logged_and_gaps_are_indicated():
    tail = draws(lambda draw, row: f"{draw.lognormvariate(0, 1.5):.3f}")
    assert guess(tail)[1] == {"log1p": True}
    even = draws(lambda draw, row: f"{draw.random():.3f}")
    assert guess(even)[1] == {}
    gaps = draws(lambda draw, row: None if row % 5 == 0 else f"{draw.random():.3f}")
    assert guess(gaps)[1] == {"missing": "mean", "missing_indicator": True}


def test_what_teaches_nothing_is_left_out():
    assert guess(["x"] * NUM_ROWS)[::2] == (Role.ignored, "constant")
    assert guess(pa.nulls(NUM_ROWS, pa.string()))[0] is Role.ignored
    note = draws(lambda draw, row: None if row == 0 else f"note {draw.random()}")
    assert guess(note)[0] is Role.ignored


@pytest.mark.parametrize("mark", ["|", ";", "^", ",", " "])
def test_delimited_tags_are_found(mark):
    tags = [f"t{number}" for number in range(12)]
    texts = draws(lambda draw, row: mark.join(draw.sample(tags, draw.randrange(1, 4))))
    assert find_delimiter(texts) == mark


@pytest.mark.parametrize(
    "choose",
    [
        lambda draw, row: f"{draw.choice('abcdef')}, {draw.choice('uvwxyz')}",
        lambda draw, row: f"{draw.randrange(100)},{draw.randrange(10):02d}",
        lambda draw, row: draw.choice(["New York", "San Jose", "Rome", "Oslo"]),
        lambda draw, row: " ".join(str(draw.random()) for _ in range(4)),
        lambda draw, row: "a;" * draw.randrange(1, 3),
    ],
)
def test_parts_decimals_words_and_ends_are_no_tags(choose):
    assert find_delimiter(draws(choose)) is None


def test_decimal_commas_are_named_and_not_taken_for_categories():
    values = draws(lambda draw, row: f"{draw.random():.2f}".replace(".", ","))
    role, _, reason = guess(values)
    assert role is Role.ignored
    assert reason == "numbers with a decimal comma: write them with a point"


@pytest.mark.parametrize(
    "write",
    [json.dumps, str, lambda ids: str(tuple(ids))],
    ids=["json", "list", "tuple"],
)
def test_lists_in_brackets_are_found_with_their_ids(write):
    ids = ["red", "green", "dark blue"]
    values = draws(lambda draw, row: write(draw.sample(ids, row % 4)))
    role, settings, reason = guess(values)
    assert (role, settings["delimiter"]) == (Role.sparse, "brackets")
    assert reason == "lists in brackets"
    assert inspect({"x": values}).columns["x"].num_distinct == 3


def test_tags_are_counted_over_all_rows_not_whole_texts():
    tags = draws(
        lambda draw, row: "|".join(draw.sample("abcdef", draw.randrange(1, 4)))
    )
    column = inspect({"tags": tags}).columns["tags"]
    assert (column.kind, column.num_distinct) == ("list", 6)
    assert guess(tags)[1] == {
        "multi_hot": True,
        "delimiter": "pipe",
        "min_frequency": 2,
    }


def test_rows_are_grouped_by_a_repeated_user():
    users = draws(lambda draw, row: f"u{draw.randrange(50)}")
    shops = draws(lambda draw, row: f"s{draw.randrange(50)}")
    profile = inspect({"shop": shops, "user": users, "y": ["0", "1"] * (NUM_ROWS // 2)})
    assert guess_group(guess_roles(profile, label="y")) == "user"


def test_feature_names_can_be_typed_and_differ():
    names = feature_names(["a.b", "a b", "1st=x", "été", "ok"])
    assert list(names.values()) == ["a_b", "a_b_2", "f_1st_x", "t", "ok"]
