"""The roofline picture: parts under roofs, where logarithms put them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dlrm.bench.roofline import draw_roofline
from dlrm.bench.spots import products_alone, spots_of
from tests.bench.figures import training_figures

SVG = "{http://www.w3.org/2000/svg}"


def circles(text: str, style: str) -> list[tuple[float, float]]:
    root = ET.fromstring(text)
    return [
        (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
        for circle in root.iter(f"{SVG}circle")
        if circle.attrib["class"] == style and circle.find(f"{SVG}title") is not None
    ]


def test_parts_have_the_intensity_and_rate_of_their_definition():
    spots = {spot.name: spot for spot in spots_of(training_figures())}
    assert list(spots) == ["layers", "whole step", "lookup", "update", "interaction"]
    # One addition for four bytes read; two operations for eight bytes moved.
    assert spots["lookup"].intensity == pytest.approx(0.25)
    assert spots["update"].intensity == pytest.approx(0.25)
    assert spots["layers"].rate == pytest.approx(5.8e9 / 0.024)
    assert spots["interaction"].rate == pytest.approx(9.6e7 / 0.006)
    assert spots["whole step"].rate == pytest.approx(5.8e9 / 0.0395)


def test_a_cross_is_made_of_layers():
    figures = training_figures() | {"dot": None}
    spots = {spot.name: spot for spot in spots_of(figures)}
    assert "interaction" not in spots
    assert spots["layers"].rate == pytest.approx(5.8e9 / 0.030)


def test_a_part_that_no_timer_saw_is_left_out():
    figures = training_figures()
    figures["split"]["update"] = 0.0
    assert "update" not in {spot.name for spot in spots_of(figures)}


def test_the_picture_has_a_dot_a_part_and_is_sound_xml():
    text = draw_roofline(training_figures())
    assert len(circles(text, "dot")) == 5
    assert len(circles(text, "alone")) == 1
    assert "A &lt;fast&gt; CPU" in text
    # 720 units wide, 460 high.
    for x, y in circles(text, "dot") + circles(text, "alone"):
        assert 66 <= x <= 696
        assert 56 <= y <= 368


def test_a_faster_part_is_higher():
    figures = training_figures()
    before = min(y for _, y in circles(draw_roofline(figures), "alone"))
    figures["limits"]["layers"][0]["seconds"] = {"forward": 0.05}
    after = min(y for _, y in circles(draw_roofline(figures), "alone"))
    assert after > before
    assert products_alone(figures)[0].rate == pytest.approx(3e10)


def test_a_model_without_tables_is_drawn():
    figures = training_figures()
    figures["limits"]["gather_bytes_per_second"] = None
    figures["traffic"] |= {"read_bytes": 0, "changed_bytes": 0}
    assert len(circles(draw_roofline(figures), "dot")) == 3
