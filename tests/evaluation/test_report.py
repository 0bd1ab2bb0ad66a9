import base64
import hashlib
import html.parser
import math
import re

import numpy as np
import pytest

from dlrm.config.trainer import Device
from dlrm.evaluation.click_report import click_page
from dlrm.evaluation.markdown import render_markdown
from dlrm.evaluation.page import render_html
from dlrm.evaluation.report import ReportContext
from dlrm.metrics.intervals import metric_intervals
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
        if data.strip() and not {"style", "script"} & set(self.open):
            self.texts.append(" ".join(data.split()))

    def after(self, text):
        return self.texts[self.texts.index(text) + 1 :]

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def history():
    for step in range(10, 1001, 10):
        yield {"step": step, "epoch": step / 500, "loss": 0.2 + 1 / step}
        if step % 250 == 0:
            auc = 0.8 - 10 / step
            yield {"step": step, "split": "valid", "auc": auc, "log_loss": 0.3}


def build(num_rows=3000, *, bayes=True, labels=None, logits=None, **context):
    random = np.random.default_rng(0)
    drawn = random.normal(-2, 1, num_rows).astype(np.float32)
    logits = drawn if logits is None else logits
    if labels is None:
        labels = (random.random(num_rows) < 1 / (1 + np.exp(-drawn))).astype(float)
    weights, groups = np.ones(len(labels)), random.integers(0, 50, num_rows)
    metrics = compute_metrics(labels, logits, weights, groups)
    metrics["intervals"] = metric_intervals(labels, logits, weights, groups)
    if bayes:
        metrics["bayes"] = {
            "auc": 0.81234,
            "log_loss": 0.23456,
            "auc_share": 0.9,
            "log_loss_ratio": 1.1,
        }
    settings = {
        "run": "my-run",
        "split": "test",
        "history": list(history()),
        "config": {"seed": 17},
        **context,
    }
    return metrics, click_page(
        metrics,
        labels=labels,
        logits=logits,
        weights=weights,
        context=ReportContext(**settings),
    )


def render(num_rows=3000, **settings):
    metrics, page = build(num_rows, **settings)
    text = render_html(page)
    return metrics, text, Page(text)


def support(rows, clicks, *, auc=0.7, calibration=1.02):
    return {
        "rows": rows,
        "positives": clicks,
        "metrics": {
            "auc": auc,
            "normalized_entropy": 0.91,
            "log_loss": 0.3,
            "calibration": calibration,
        },
        "undefined": {},
        "intervals": {"auc": [0.65, 0.75], "calibration": [0.97, 1.07]},
    }


def slices(name="tv", *, significant=True):
    worst = {
        "dimension": "device", "slice": name, "test": "calibration", "z": -12.1,
        "p_adjusted": 1e-30, "significant": significant, "rows": 1000, "positives": 90,
        "promised": 130.2, "calibration": 1.446, "log_loss": 0.31,
        "sentence": f"{name} promises 45 % more clicks than come.",
    }  # fmt: skip
    weak = {
        "dimension": "device", "slice": name, "auc": 0.55, "auc_rest": 0.71, "z": -9.0,
        "p_adjusted": 1e-18, "significant": True, "rows": 1000, "positives": 90,
    }  # fmt: skip
    names = (name, "phone", "(others)")
    found = [
        {"name": each, "share": 0.5 - 0.1 * i, **support(1500 - 300 * i, 90 + i)}
        for i, each in enumerate(names)
    ]
    found[2]["metrics"]["auc"] = None
    del found[2]["intervals"]["auc"]
    return {
        "level": 0.05, "min_clicks": 30, "errors": "groups", "num_tests": 84,
        "dimensions": [{"key": "device", "kind": "column", "slices": found}],
        "worst": [worst], "weak_ranking": [weak],
    }  # fmt: skip


def test_nothing_is_fetched_and_one_script_sorts_tables():
    _, text, page = render(slices=slices())
    assert page.named("script") == [{}]
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attrs.get(name, "data:,") == "data:,"
    for trace in ("http:", "https:", "url(", "@import", "fetch(", "innerHTML", "eval("):
        assert trace not in text


def test_the_policy_allows_the_pages_own_script_alone():
    _, text, page = render(slices=slices())
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(
        attrs["content"]
        for attrs in page.named("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-eval" not in policy


def test_a_report_without_sortable_tables_has_no_script():
    _, _, page = render()
    assert page.named("script") == []


def test_every_value_is_escaped():
    _, text, page = render(
        run=EVIL,
        split=EVIL,
        model=EVIL,
        checkpoint=EVIL,
        config={EVIL: {"nested": [EVIL]}},
        slices=slices(EVIL),
        provenance={EVIL: EVIL},
    )
    assert text.count("<script") == 1
    assert page.named("script") == [{}]
    assert page.named("img") == []
    shown = " ".join(EVIL.split())
    assert sum(shown in found for found in page.texts) >= 10


def test_all_sections_and_charts_are_there():
    _, _, page = render(slices=slices())
    headings = [attrs.get("id") for attrs in page.named("h2")]
    assert headings == [
        "metrics", "ranking", "calibration", "slices", "training", "origin",
    ]  # fmt: skip
    labelled = [attrs["aria-labelledby"] for attrs in page.named("section")]
    assert labelled == headings
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    charts = page.named("svg")
    assert len(charts) == 8
    for attrs in charts:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(ids)
    assert len(page.named("table")) == len(page.named("caption"))
    assert page.named("html")[0]["lang"] == "en"
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.named("meta")
    )


def test_sections_without_data_are_left_out():
    _, text, page = render(bayes=False, history=(), config={})
    headings = [attrs.get("id") for attrs in page.named("h2")]
    assert headings == ["metrics", "ranking", "calibration"]
    assert "Bayes" not in text
    assert "Best possible" not in text


def test_headlines_show_their_intervals_and_what_is_independent():
    metrics, _, page = render()
    found = metrics["intervals"]
    assert found["num_units"] == 50
    low, high = found["auc"]["low"], found["auc"]["high"]
    assert f"95 %: {low:.4f} to {high:.4f}" in page.texts
    for name in ("auc", "log_loss", "brier", "calibration"):
        words = f"{found[name]['low']:.5f} to {found[name]['high']:.5f}"
        assert words in page.texts, name
    assert any("50 groups are taken as independent" in text for text in page.texts)


def test_metrics_without_intervals_are_shown_as_before():
    metrics, _ = build()
    del metrics["intervals"]
    page = click_page(
        metrics,
        labels=np.array([0, 1]),
        logits=np.zeros(2),
        weights=np.ones(2),
        context=ReportContext(run="r", split="s"),
    )
    shown = Page(render_html(page))
    assert "95 % interval" not in shown.texts[: shown.texts.index("Ranking")]
    assert f"{metrics['auc']:.5f}" in shown.texts


def test_slices_are_sortable_by_number_and_fold_by_dimension():
    _, text, page = render(slices=slices())
    sortable = [attrs for attrs in page.named("table") if "sortable" in str(attrs)]
    assert len(sortable) == 3
    body = text[text.index("All slices by device (3)") :]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)[1:4]
    keys = [re.findall(r'data-sort="([^"]*)"', row) for row in rows]
    assert [key[0] for key in keys] == ["1500", "1200", "900"]
    # Rows, share, clicks, AUC, its interval: the last slice has no AUC.
    assert [key[3] for key in keys] == ["0.7", "0.7", "NaN"]
    assert page.texts.count("device = tv") == 2
    assert any("device = tv: tv promises 45 % more" in text for text in page.texts)


def test_slices_that_chance_explains_are_not_called_bad():
    _, _, page = render(slices=slices(significant=False))
    assert any("No slice breaks the model's promises" in text for text in page.texts)
    assert not any("more than chance explains (" in text for text in page.texts)


def test_importance_and_tables_are_shown_once_they_are_known():
    change = {"change": 0.02, "low": 0.01, "high": 0.03, "covers_zero": False}
    feature = {
        "feature": EVIL, "log_loss": change, "auc": None, "gain_per_mib": None,
        "bytes": 2**20, "lookups_per_row": 1.0,
    }  # fmt: skip
    importance = {
        "repeats": 5, "rows": 100, "split_rows": 3000, "num_clusters": 40,
        "features": [feature, {**feature, "feature": "item", "log_loss": None}],
        "prune": [{"feature": EVIL, "reason": "no gain", "freed_bytes": 2048}],
    }  # fmt: skip
    table = {
        "table": EVIL, "rows": 1234, "dim": 16, "weight_bytes": 2**20, "state_bytes": 0,
        "never_trained": None, "norms": None, "zero_rows": 1, "tiny_rows": 2,
        "duplicate_rows": 0, "effective_rank": 3.25,
    }  # fmt: skip
    embeddings = {"tables": [table], "warnings": [f"{EVIL}: 90% untrained"]}
    _, text, page = render(importance=importance, embeddings=embeddings)
    headings = [attrs["id"] for attrs in page.named("h2")]
    assert headings[3:5] == ["importance", "embeddings"]
    for shown in ("+0.010000 to +0.030000", "1,234", "unknown", "3.2"):
        assert shown in page.texts, shown
    assert any(found.endswith("frees 2.00 KiB") for found in page.texts)
    assert text.count("<script") == 1
    assert page.named("img") == []


def test_new_ids_and_rows_of_the_future_are_reported():
    found = slices()
    found["dimensions"] = []
    entry = {
        "feature": "item", "num_ids": 1000, "num_unseen": 200, "share": 0.2,
        "unknown": "", "seen": support(800, 80), "unseen": support(200, 20, auc=0.61),
    }  # fmt: skip
    hashed = {**entry, "feature": "tag", "share": None, "unknown": "it is hashed",
              "seen": None, "unseen": None}  # fmt: skip
    found["cold_start"] = {"features": [entry, hashed], "any": None}
    found["future"] = {
        "leaks": True, "num_later": 30, "num_trained": 400, "first_evaluated": 0.0,
        "last_trained": 86_400.0,
    }  # fmt: skip
    _, _, page = render(slices=found)
    assert "cold-start" in [attrs["id"] for attrs in page.named("h2")]
    assert "20.00%" in page.texts
    assert "unknown: it is hashed" in page.texts
    assert "0.61000" in page.texts
    assert any(
        "Not a forecast: 30 of 400 training rows (7.5%)" in text
        and "1970-01-02 00:00:00 UTC" in text
        for text in page.texts
    )


def test_recalibration_shows_both_curves_and_numbers():
    bins = [{"mean_probability": 0.1 * i, "click_rate": 0.05 * i} for i in range(1, 6)]
    side = {"calibration": 2.0, "ece": 0.04321, "log_loss": 0.5, "bins": bins}
    found = {
        "order": ["log_keep_rate", "isotonic"],
        "fitted_on": "valid",
        "raw": side,
        "calibrated": {**side, "calibration": 1.00123, "ece": None},
    }
    _, _, page = render(recalibration=found)
    assert "as the model says" in page.texts
    assert page.after("Calibration")[:1]
    row = page.after("Before and after the correction.")
    place = row.index("2.00000")
    assert [text for text in row[place:] if text][:2] == ["2.00000", "1.00123"]
    assert any("added to the logit, then isotonic, fitted on valid" in text
               for text in page.texts)  # fmt: skip


def test_the_numbers_are_those_of_metrics_json():
    metrics, _, page = render()
    for name in ("auc", "log_loss", "normalized_entropy", "brier", "ece", "gauc"):
        assert f"{metrics[name]:.5f}" in page.texts, name
    assert any("3,000 examples" in found for found in page.texts)
    assert any(f"{metrics['num_positives']:,} clicks" in text for text in page.texts)
    assert "0.81234" in page.texts
    assert any("90.0% of the way" in found for found in page.texts)


def test_the_deciles_add_up_to_the_rows():
    _, text, _ = render()
    body = text[text.index('id="deciles-caption"') :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    rows = Page(body + "</tbody>")
    cells = [found for found in rows.texts if found]
    assert len(cells) == 10 * 6
    assert sum(int(cell.replace(",", "")) for cell in cells[1::6]) == 3000


def test_the_gain_table_is_that_of_sorted_rows():
    labels = np.r_[np.ones(8), np.zeros(2), np.ones(2), np.zeros(88)]
    _, text, _ = render(100, labels=labels, logits=np.arange(100, 0, -1.0))
    body = text[text.index('id="gain-table-caption"') :]
    cells = Page(body[body.index("<tbody>") : body.index("</tbody>")] + "</tbody>")
    cells = [found for found in cells.texts if found]
    assert cells[:4] == ["0% to 10%", "80.000%", "8.00", "80.0%"]
    assert cells[4:8] == ["10% to 20%", "20.000%", "2.00", "100.0%"]


def test_markdown_holds_the_same_numbers_and_escapes_them():
    metrics, page = build(slices=slices("<script>a|b_c*"), run="a_b")
    text = render_markdown(page)
    assert text.startswith("# a\\_b\n")
    assert f"**AUC {metrics['auc']:.5f}**" in text
    assert "## Slices" in text
    assert "device = &lt;script&gt;a\\|b\\_c\\*" in text
    assert "<script" not in text
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|( ---:? \|)+", line):
            width = line.count("|")
            for row in (lines[number - 1], lines[number + 1]):
                assert len(re.findall(r"(?<!\\)\|", row)) == width


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


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "high"])
def test_a_history_of_odd_values_draws_what_is_left(value):
    records = [{"step": 1, "loss": value}, {"step": 2, "loss": 0.5}, {"loss": 0.4}]
    _, text, page = render(history=records)
    assert len(page.named("svg")) == 7
    assert "nan" not in text.lower().replace("nanum", "")


def test_a_constant_model_and_one_row_are_drawn():
    _, text, page = render(100, logits=np.zeros(100, np.float32), bayes=False)
    assert "nan" not in text
    assert len(page.named("svg")) == 8
    _, _, page = render(1, labels=np.ones(1), bayes=False)
    assert len(page.named("svg")) == 4


def test_no_rows_make_a_report_without_prediction_charts():
    _, _, page = render(0, labels=np.zeros(0), bayes=False)
    headings = [attrs.get("id") for attrs in page.named("h2")]
    assert headings == ["metrics", "training", "origin"]
    assert any("auc: no rows" in text for text in page.texts)


@pytest.mark.slow
def test_a_large_evaluation_stays_a_small_page():
    _, text, _ = render(400_000)
    assert len(text) < 120_000
