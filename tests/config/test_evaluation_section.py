import pytest

from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.config.evaluation import EvaluationConfig
from dlrm.config.slices import SliceKind, TimeWindow, parse_slices


def test_every_form_of_a_slice_is_read():
    texts = [
        "device", "country*device", "time:hour*device", "activity",
        "bucket:a:b:10", "column:time:day",
    ]  # fmt: skip
    specs = parse_slices(texts, key="slices")
    assert [len(spec.parts) for spec in specs] == [1, 2, 2, 1, 1, 1]
    parts = [part for spec in specs for part in spec.parts]
    assert [part.kind for part in parts] == [
        SliceKind.column, SliceKind.column, SliceKind.column, SliceKind.time,
        SliceKind.column, SliceKind.activity, SliceKind.bucket, SliceKind.column,
    ]  # fmt: skip
    assert parts[3].window is TimeWindow.hour
    assert (parts[6].column, parts[6].num_buckets) == ("a:b", 10)
    assert parts[7].column == "time:day"
    assert specs[1].columns == ("country", "device")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a column or the crossing of two"),
        ("a*b*c", r"the crossing of two \(a\*b\), but it is 'a\*b\*c'"),
        ("a*", "a column or the crossing of two"),
        ("a*a", "a crossing of two different slices"),
        ("time:week", r"time:day, time:hour, time:hour_of_day, but it is 'time:week'"),
        ("bucket:price", "bucket:<column>:<2 to 1000 buckets>"),
        ("bucket:price:1", "but it is 'bucket:price:1'"),
    ],
)
def test_other_texts_are_refused_by_name(text, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(slices=[text])


def test_a_slice_typed_twice_is_refused():
    with pytest.raises(ConfigError, match="'a' comes twice"):
        EvaluationConfig(slices=["a", "b", "a"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluation.slice_values=0", "evaluation.slice_values must be >= 1"),
        ("evaluation.slice_values=10001", "evaluation.slice_values must be <= 10000"),
        ("evaluation.slice_level=1", r"evaluation.slice_level must be in \(0, 1\)"),
        ("evaluation.slices=[speed]", "evaluation.slices must be of columns that are"),
        ("evaluation.slices=[device*time:day]", "data.time_column is not set"),
        ("evaluation.forbid_future=true", "false where data.time_column is not set"),
        ("evaluation.slices=[interests]", "Add interests to data.keep"),
    ],
)
def test_what_cannot_be_sliced_is_refused_before_training(setting, message):
    with pytest.raises(ConfigError, match=message):
        compose(["data=synthetic", setting])


def test_what_can_be_sliced_is_taken():
    config = compose(["data=synthetic", "evaluation.slices=[device*hour,activity]"])
    specs = config.evaluation.specs()
    assert specs is not None
    assert [spec.text for spec in specs] == ["device*hour", "activity"]
    with pytest.raises(ConfigError, match="activity where data.group_column"):
        compose(
            ["data=synthetic", "data.group_column=null", "evaluation.slices=[activity]"]
        )
