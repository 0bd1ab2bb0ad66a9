import re

from dlrm.evaluation.forest import ForestRow, forest_figure


def draw(*rows, **settings):
    return forest_figure(
        rows,
        key="f",
        title="<Title>",
        summary="a & b.",
        axis_label="difference",
        **settings,
    )


def spans(svg):
    """Return the x of both ends of every whisker, left to right as drawn."""
    found = re.findall(
        r'class="span \w+" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)"', svg
    )
    return [(float(x1), float(x2)) for x1, _, x2 in found if x1 != x2]


def dots(svg):
    return [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]


def test_marks_and_whiskers_stand_on_one_scale_with_the_reference():
    rows = ForestRow("new", 0.01, 0.0, 0.02), ForestRow("old", -0.01, -0.02, 0.0)
    svg = str(draw(*rows).svg)
    reference = {float(x) for x in re.findall(r'"line reference" x1="([\d.]+)"', svg)}
    (zero,) = reference
    first, second = spans(svg)
    assert first[0] == second[1] == zero
    assert dots(svg) == [sum(first) / 2, sum(second) / 2]
    assert first[1] - zero == zero - second[0] > 50


def test_the_reference_is_in_view_and_needs_no_interval():
    svg = str(draw(ForestRow("ratio", 1.5), reference=1.0).svg)
    x = float(re.findall(r'"line reference" x1="([\d.]+)"', svg)[0])
    assert 0 < x < dots(svg)[0] < 360
    assert spans(svg) == []


def test_names_are_escaped_shortened_in_view_and_whole_in_the_description():
    name = "<script>" + "long" * 20
    figure = draw(ForestRow(name, 0.1, 0.0, 0.2, text="+0.1 [0, 0.2]"))
    svg = str(figure.svg)
    assert "<script" not in svg
    assert "&lt;script&gt;" + "long" * 20 in svg.split("</desc>")[0]
    assert "…" in svg.split("</desc>")[1]
    assert "+0.1 [0, 0.2]" in svg.split("</desc>")[1]
    assert "a &amp; b." in svg


def test_each_row_makes_the_drawing_taller():
    heights = []
    for count in (1, 3):
        svg = str(draw(*[ForestRow(str(i), i, i, i + 1) for i in range(count)]).svg)
        heights.append(float(re.findall(r'viewBox="0 0 360 (\d+)"', svg)[0]))
    assert heights[1] - heights[0] == 72
