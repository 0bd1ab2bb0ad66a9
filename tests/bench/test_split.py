"""A step taken apart: pieces are disjoint, sum to the whole, and change nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from dlrm.bench.case import BenchCase, make_case
from dlrm.bench.our_loop import OurLoop
from dlrm.bench.split import PIECES
from dlrm.bench.step_hooks import piece_of, tensors_in
from dlrm.config.compose import compose
from dlrm.config.root import Config
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.layers.dot_interaction import DotInteraction
from dlrm.layers.mlp import MLP
from tests.bench.tiny import SETTINGS, TINY, write_preset
from tests.builders import small_schema


def case(folder: Path, config: Config | None = None) -> BenchCase:
    config = config or compose(list(SETTINGS))
    return make_case(
        config, output=folder / "runs", num_steps=5, code=(), report=lambda line: None
    )


@pytest.fixture
def loop(workdir: Path) -> OurLoop:
    write_preset(workdir)
    return OurLoop(case(workdir))


def test_a_turn_takes_its_steps_and_counts_its_examples(loop: OurLoop):
    # 3,000 rows in batches of 64: 46 whole ones and a last one of 56, in turn ten.
    turns = [loop.turn() for _ in range(10)]
    assert turns == [320] * 9 + [312]
    assert loop.trainer.step == 50


def test_pieces_sum_to_the_whole(loop: OurLoop):
    loop.turn()
    found = loop.split(None)
    assert tuple(found["seconds"]) == PIECES
    assert sum(found["seconds"].values()) == pytest.approx(found["whole"])
    seconds = found["seconds"]
    assert seconds["communication"] == 0.0
    # What no mark covers is never negative: no two pieces overlap.
    assert min(seconds.values()) >= 0.0
    for name in ("embedding forward", "mlp forward", "mlp backward", "update"):
        assert seconds[name] > 0, name
    assert seconds["interaction forward"] > 0
    assert seconds["optimizer"] > 0


def test_the_products_of_a_step_are_those_of_its_layers(loop: OurLoop):
    found = loop.split(None)["gemms"]
    # Six pairs of four vectors and the dense one of 4, padded to 16 columns.
    assert found == [
        [64, 3, 8, False],
        [64, 8, 4, True],
        [64, 16, 8, True],
        [64, 8, 1, True],
    ]


def test_taking_steps_apart_trains_as_plain_steps_do(workdir: Path):
    write_preset(workdir)
    plain, timed = OurLoop(case(workdir)), OurLoop(case(workdir))
    timed.split(None)
    taken = timed.trainer.step
    plain._advance(taken)
    ours, theirs = (
        dict(each.trainer.learner.model.named_parameters()) for each in (plain, timed)
    )
    assert taken >= 4
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        assert torch.equal(parameter, theirs[name]), name


def test_nothing_is_left_behind(loop: OurLoop):
    backward = torch.Tensor.backward
    loop.split(None)
    assert torch.Tensor.backward is backward
    model = loop.trainer.learner.model
    assert not any(module._forward_hooks for module in model.modules())
    assert loop.turn() == 320


@pytest.mark.parametrize("model", ["dlrm_dcnv2", "xdeepfm", "finalmlp"])
def test_any_model_is_taken_apart(workdir: Path, model: str):
    config = compose([*SETTINGS[1:], f"model={model}", "model.embedding_dim=4"])
    config = dataclasses.replace(config, workload=TINY)
    found = OurLoop(case(workdir, config)).split(None)
    assert min(found["seconds"].values()) >= 0.0
    assert found["seconds"]["embedding forward"] > 0
    assert found["seconds"]["update"] > 0


def test_pieces_go_by_the_room_a_module_is_from():
    assert piece_of(MLP(2, [3])) == "mlp"
    assert piece_of(torch.nn.Linear(2, 3)) == "mlp"
    assert piece_of(DotInteraction(3)) == "interaction"
    assert piece_of(FeatureEmbeddings(small_schema())) == "embedding"
    assert piece_of(torch.nn.Dropout()) is None


def test_tensors_are_found_in_what_modules_give():
    a, b = torch.zeros(1), torch.ones(1)
    assert tensors_in([a, {"x": (b, "text")}]) == [a, b]
    assert tensors_in(None) == []
