import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dlrm.evaluation.charts import Chart, Line, draw_chart, even_axis
from dlrm.evaluation.figures import histogram_figure, loss_figure, roc_figure
from dlrm.metrics.ranking import roc_curve


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_an_axis_covers_its_range_with_a_few_distinct_ticks(low, width, percent):
    high = low + width
    assume(high - low > 1e-9 * max(1.0, abs(low)))
    axis = even_axis("x", low, high, percent=percent)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low <= low + slack
    assert axis.high >= high - slack
    assert 3 <= len(axis.ticks) <= 7
    values = [value for value, _ in axis.ticks]
    assert values == sorted(values)
    assert values[0] == axis.low
    assert values[-1] == axis.high


@pytest.mark.parametrize(
    ("low", "high", "percent", "texts"),
    [
        (0, 1, True, ["0%", "25%", "50%", "75%", "100%"]),
        (0, 1, False, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0, 0.02, True, ["0.0%", "0.5%", "1.0%", "1.5%", "2.0%"]),
        (0, 4000, False, ["0", "1,000", "2,000", "3,000", "4,000"]),
        (-0.2, 0.2, False, ["-0.2", "-0.1", "0.0", "0.1", "0.2"]),
    ],
)
def test_ticks_are_written_with_just_enough_digits(low, high, percent, texts):
    axis = even_axis("x", low, high, percent=percent)
    assert [text for _, text in axis.ticks] == texts


def test_a_range_of_one_point_is_widened():
    axis = even_axis("x", 5, 5)
    assert axis.low < 5 < axis.high


def test_a_line_runs_from_corner_to_corner_and_texts_are_escaped():
    chart = Chart(
        key="k",
        title="<b>",
        summary="a & b",
        x=even_axis("<x>", 0, 1),
        y=even_axis("y", 0, 1),
        lines=(Line("diagonal", [(0, 0), (1, 1)], "first", dots=True),),
    )
    svg = str(draw_chart(chart))
    assert 'd="M50.0 218.0L340.0 12.0"' in svg
    assert svg.count("<circle") == 2
    assert '<title id="k-title">&lt;b&gt;</title>' in svg
    assert "a &amp; b" in svg
    assert "&lt;x&gt;" in svg


def test_a_thinned_roc_curve_keeps_its_ends_and_its_area():
    random = np.random.default_rng(0)
    labels = random.random(20_000) < 0.1
    curve = roc_curve(labels, random.normal(size=20_000) + labels)
    line = roc_figure(curve, 0.5).lines[1]
    assert line.points[0] == (0, 0)
    assert line.points[-1] == (1, 1)
    assert len(line.points) <= 240
    x, y = np.array(line.points).T
    whole = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert np.trapezoid(y, x) == pytest.approx(whole, abs=1e-3)


def test_each_class_of_the_histogram_adds_to_one_and_stays_in_the_frame():
    random = np.random.default_rng(0)
    clicks = random.random(5000) < 0.02
    logits = np.append(random.normal(-4, 1, 4998), [np.inf, -np.inf])
    chart = histogram_figure(clicks, logits, random.exponential(size=5000))
    for line in chart.lines:
        assert sum(y for _, y in line.points[::2]) == pytest.approx(1)
        assert line.points[0][0] == chart.x.low
        assert line.points[-1][0] == chart.x.high
    numbers = re.findall(r"[\d.]+", str(draw_chart(chart)).split("<path", 1)[1])
    assert max(map(float, numbers)) < 1000


def test_the_first_steep_steps_do_not_flatten_the_loss_curve():
    history = [{"step": s, "loss": 9.0 if s < 50 else 0.5} for s in range(10, 1001, 10)]
    history += [{"step": 500, "split": "valid", "log_loss": 0.4}]
    chart = loss_figure(history, 0.3)
    assert chart.y.high < 1
    training, validation, bound = chart.lines
    assert [x for x, _ in training.points] == list(range(50, 1001, 10))
    assert validation.points == [(500, 0.4)]
    assert {y for _, y in bound.points} == {0.3}
    assert loss_figure([], 0.3) is None
