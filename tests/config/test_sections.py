"""A plain dict becomes a section's dataclass, or an error that names the key."""

from dataclasses import dataclass, field
from enum import Enum

import pytest

from dlrm.config.errors import ConfigError
from dlrm.config.sections import check_section


class Shape(Enum):
    round = "round"
    square = "square"


@dataclass(kw_only=True)
class Inner:
    size: int = 1


@dataclass(kw_only=True)
class Section:
    name: str
    widths: list[int] = field(default_factory=lambda: [8])
    shape: Shape = Shape.round
    inner: Inner = field(default_factory=Inner)
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.inner.size < 0:
            raise ConfigError("model.inner.size must be >= 0")


def test_a_dict_becomes_the_dataclass():
    section = {"name": "m", "widths": [4, 2], "shape": "square", "inner": {"size": 3}}
    expected = Section(name="m", widths=[4, 2], shape=Shape.square, inner=Inner(size=3))
    assert check_section(Section, section, key="model") == expected


@pytest.mark.parametrize(
    ("section", "fragments"),
    [
        (
            {"name": "m", "width": [1]},
            ["model.width is not", "Did you mean model.widths?"],
        ),
        (
            {"name": "m", "inner": {"sise": 1}},
            ["model.inner.sise", "model.inner.size?"],
        ),
        ({"name": "m", "widths": ["a"]}, ["model.widths", "whole number", "'a'"]),
        ({"name": "m", "shape": "squar"}, ["model.shape", "Did you mean square?"]),
        ({"name": "m", "rate": "high"}, ["model.rate", "a number or null", "'high'"]),
        ({"widths": [1]}, ["model.name must be set"]),
        ({"name": "m", "inner": {"size": -1}}, ["model.inner.size must be >= 0"]),
    ],
)
def test_a_wrong_section_is_refused_by_key(section: dict, fragments: list[str]):
    with pytest.raises(ConfigError) as refused:
        check_section(Section, section, key="model")
    assert all(fragment in str(refused.value) for fragment in fragments), refused.value
