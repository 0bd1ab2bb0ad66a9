import html.parser
import math

import numpy as np
import pytest

from dlrm.config.trainer import Device
from dlrm.evaluation.report import ReportContext, render_report
from dlrm.metrics.summary import compute_metrics

EVIL = "<script>alert('x')</script>\"><img src=http://evil.example/x>"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(" ".join(data.split()))

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def history():
    for step in range(10, 1001, 10):
        yield {"step": step, "epoch": step / 500, "loss": 0.2 + 1 / step}
        if step % 250 == 0:
            auc = 0.8 - 10 / step
            yield {"step": step, "split": "valid", "auc": auc, "log_loss": 0.3}


def render(num_rows=3000, *, bayes=True, labels=None, logits=None, **context):
    random = np.random.default_rng(0)
    drawn = random.normal(-2, 1, num_rows).astype(np.float32)
    logits = drawn if logits is None else logits
    if labels is None:
        labels = (random.random(num_rows) < 1 / (1 + np.exp(-drawn))).astype(float)
    weights = np.ones(len(labels))
    metrics = compute_metrics(labels, logits, weights, random.integers(0, 50, num_rows))
    if bayes:
        metrics["bayes"] = {
            "auc": 0.81234,
            "log_loss": 0.23456,
            "auc_share": 0.9,
            "log_loss_ratio": 1.1,
        }
    settings = {"run": "my-run", "split": "test", "history": list(history()), **context}
    text = render_report(
        metrics,
        labels=labels,
        logits=logits,
        weights=weights,
        context=ReportContext(**settings),
    )
    return metrics, text, Page(text)


def test_nothing_is_fetched_and_nothing_runs():
    _, text, page = render()
    assert page.named("script") == []
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attrs.get(name, "data:,") == "data:,"
    for trace in ("http:", "https:", "url(", "@import"):
        assert trace not in text


def test_every_value_is_escaped():
    _, text, page = render(
        run=EVIL,
        split=EVIL,
        model=EVIL,
        checkpoint=EVIL,
        config={EVIL: {"nested": [EVIL]}},
        provenance={EVIL: EVIL},
    )
    assert "<script" not in text
    assert page.named("script") == page.named("img") == []
    shown = " ".join(EVIL.split())
    assert sum(shown in found for found in page.texts) >= 8


def test_all_sections_and_charts_are_there():
    _, _, page = render()
    headings = {attrs.get("id") for attrs in page.named("h2")}
    assert headings == {"metrics", "predictions", "bins", "training", "origin"}
    labelled = [attrs["aria-labelledby"] for attrs in page.named("section")]
    assert set(labelled) == headings
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    charts = page.named("svg")
    assert len(charts) == 6
    for attrs in charts:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(ids)
    assert len(page.named("table")) == len(page.named("caption"))
    assert page.named("html")[0]["lang"] == "en"
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.named("meta")
    )


def test_the_numbers_are_those_of_metrics_json():
    metrics, _, page = render()
    for name in ("auc", "log_loss", "normalized_entropy", "brier", "ece", "gauc"):
        assert f"{metrics[name]:.5f}" in page.texts, name
    assert any("3,000 examples" in found for found in page.texts)
    assert any(f"{metrics['num_positives']:,} clicks" in text for text in page.texts)
    assert "0.81234" in page.texts
    assert any("90.0% of the way" in found for found in page.texts)


def test_the_bins_add_up_to_the_rows():
    _, text, _ = render()
    body = text[text.index('id="bins"') : text.index('id="training"')]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    rows = Page(body + "</tbody>")
    cells = [found for found in rows.texts if found]
    assert len(cells) == 20 * 5
    assert sum(int(cell.replace(",", "")) for cell in cells[::5]) == 3000


def test_config_is_listed_by_dotted_key_and_the_fingerprint_is_shown():
    _, _, page = render(
        config={
            "model": {"top_mlp": [64, 1], "dropout": None},
            "trainer": {"device": Device.cpu},
        },
        provenance={"data_fingerprint": "3f2a9c", "packages": {"torch": "2.13.0"}},
    )
    for key, value in (
        ("model.top_mlp", "64 1"),
        ("trainer.device", "cpu"),
        ("data_fingerprint", "3f2a9c"),
        ("packages.torch", "2.13.0"),
    ):
        assert page.texts[page.texts.index(key) + 1] == value


def test_a_run_without_history_or_bound_says_so():
    _, text, page = render(bayes=False, history=())
    assert "The run has no training history." in page.texts
    assert "Bayes" not in text
    assert "Best possible" not in text


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "high"])
def test_a_history_of_odd_values_draws_what_is_left(value):
    records = [{"step": 1, "loss": value}, {"step": 2, "loss": 0.5}, {"loss": 0.4}]
    _, text, page = render(history=records)
    assert len(page.named("svg")) == 5
    assert "nan" not in text.lower().replace("nanum", "")


def test_a_constant_model_and_one_row_are_drawn():
    _, text, page = render(100, logits=np.zeros(100, np.float32), bayes=False)
    assert "nan" not in text
    assert len(page.named("svg")) == 6
    _, _, page = render(1, labels=np.ones(1), bayes=False)
    assert len(page.named("svg")) == 4


def test_no_rows_make_a_report_without_prediction_charts():
    _, _, page = render(0, labels=np.zeros(0), bayes=False)
    assert "There is nothing to draw: see the metrics above." in page.texts
    assert "auc: no rows" in page.texts


@pytest.mark.slow
def test_a_large_evaluation_stays_a_small_page():
    _, text, _ = render(400_000)
    assert len(text) < 120_000
