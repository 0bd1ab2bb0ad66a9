"""The page and the terminal say what comparison.json holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm.comparison.comparing import Sampling, compare
from dlrm.comparison.matching import Model, match_models
from dlrm.comparison.report import comparison_page, describe
from dlrm.comparison.sources import ColumnNames
from dlrm.evaluation.markdown import render_markdown
from dlrm.evaluation.page import render_html
from dlrm.evaluation.slices.choosing import Skipped
from dlrm.evaluation.slices.dimensions import Dimension, SliceName
from tests.comparison.files import NUM_ROWS, frame

EVIL = "<b>&new"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("files")
    models = []
    for number, (name, skill) in enumerate({"old": 0.3, EVIL: 1.2, "mid": 0.6}.items()):
        path = folder / f"{number}.csv"
        frame(skill=skill, seed=number).to_csv(path, index=False)
        models.append(Model(name, (path,)))
    codes = np.arange(NUM_ROWS) % 2
    names = (SliceName("<i>even", ("<i>even",)), SliceName("odd", ("odd",)))
    return compare(
        match_models(models, ColumnNames(), split="test"),
        dimensions=[Dimension("side", "column", codes, names)],
        skipped=[Skipped("price", "none of its values is a number")],
        sampling=Sampling(num_draws=30),
    )


def test_the_terminal_has_a_line_a_metric_and_the_verdict(result):
    text = describe(result)
    assert max(map(len, text.splitlines()[:12])) <= 100
    for entry in result["comparisons"]:
        assert f"{entry['candidate']} against old" in text
        for sentence in entry["verdict"]:
            assert sentence in text
    found = result["comparisons"][0]["differences"]["auc"]
    line = next(line for line in text.splitlines() if line.startswith("AUC"))
    assert f"{found['baseline']:.5f}" in line
    assert f"{found['candidate']:.5f}" in line
    assert line.endswith("*")
    assert "ECE, debiased" in text


def test_the_page_holds_every_candidate_slice_and_reason(result):
    page = comparison_page(result)
    html, markdown = render_html(page), render_markdown(page)
    for text in (html, markdown):
        assert "AUC difference, mid" in text
        assert "Not sliced by price: none of its values is a number." in text
        assert "&lt;i&gt;even" in text
        assert "<i>even" not in text
        assert "<b>&new" not in text
        assert "ranks better than old" in text
    assert html.count("<svg") == 2
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_paths_stand_in_the_page_once_a_seed(result):
    markdown = render_markdown(comparison_page(result))
    for model in result["models"]:
        assert markdown.count(Path(model["paths"][0]).name) == 1


def test_moved_probabilities_are_told(result):
    clipped = {**result, "num_clipped": 12}
    assert "12 probabilities were 0 or 1" in describe(clipped)
    assert "12 probabilities were 0 or 1" in render_markdown(comparison_page(clipped))
