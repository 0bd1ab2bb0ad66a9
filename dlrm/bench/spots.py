"""The parts of a measured step by their operations, bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spot:
    """One measured part."""

    name: str
    flops: float
    bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds


def spots_of(figures: dict[str, Any]) -> list[Spot]:
    """Return the parts of a measured step; those that took no time are left out.

    A looked-up value costs one addition, a changed one a product and a sum. The dot
    interaction is a part of its own; other interactions have layers, and their time
    counts with those.
    """
    split, traffic, limits = figures["split"], figures["traffic"], figures["limits"]
    layers = limits["layers"]
    flops = figures["floor"]["flops_a_step"]
    moved = traffic["read_bytes"] + 2 * traffic["changed_bytes"]
    size = sum(layer["bytes"] for layer in layers)
    mlp = split["mlp forward"] + split["mlp backward"]
    mixing = split["interaction forward"] + split["interaction backward"]
    dot = figures["dot"]
    found = [
        Spot("layers", flops, size, mlp if dot else mlp + mixing),
        Spot("whole step", flops, size + moved, split["whole_without_timers"]),
        Spot(
            "lookup",
            traffic["read_bytes"] / 4,
            traffic["read_bytes"],
            split["embedding forward"],
        ),
        Spot(
            "update",
            traffic["changed_bytes"] / 2,
            2 * traffic["changed_bytes"],
            split["update"],
        ),
    ]
    if dot:
        found.append(Spot("interaction", dot["flops"], dot["bytes"], mixing))
    return [s for s in found if s.seconds > 0 and s.flops > 0 and s.bytes > 0]


def products_alone(figures: dict[str, Any]) -> list[Spot]:
    """Return each layer's products as they are when nothing else runs."""
    return [
        Spot(
            f"layer {layer['shape'][1]} to {layer['shape'][2]}, alone",
            layer["flops"],
            layer["bytes"],
            sum(layer["seconds"].values()),
        )
        for layer in figures["limits"]["layers"]
    ]
