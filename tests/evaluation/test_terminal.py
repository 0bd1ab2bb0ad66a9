import numpy as np

from dlrm.evaluation.terminal import METRIC_WORDS, MORE_METRIC_WORDS, format_metrics
from dlrm.metrics.summary import GROUP_METRIC_NAMES, METRIC_NAMES, compute_metrics


def test_every_metric_has_its_line_with_the_value_to_five_decimals():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 2, 1234), random.normal(size=1234)
    metrics = compute_metrics(labels, logits, groups=random.integers(0, 9, 1234))
    lines = format_metrics(metrics).splitlines()
    values = [line[20:32].strip() for line in lines]
    assert values[:2] == ["1,234", f"{labels.sum():,}"]
    for name in ("auc", "gauc", "log_loss", "brier", "calibration", "ece", "accuracy"):
        assert f"{metrics[name]:.5f}" in values, name
    assert lines[-1].split()[:3] == ["Groups", "used", "9"]
    assert max(map(len, lines)) <= 80


def test_an_undefined_metric_says_so_and_why():
    text = format_metrics(compute_metrics(np.zeros(3), np.zeros(3)))
    assert "AUC                    undefined   one class\n" in text
    text = format_metrics(compute_metrics(np.zeros(0), np.zeros(0)))
    assert "Clicks                         0\n" in text
    assert "undefined   no rows" in text


def test_the_bayes_bound_is_put_in_words():
    metrics = compute_metrics(np.array([0, 1, 1]), np.array([0.0, 1.0, -1.0]))
    bayes = {"auc": 0.8, "log_loss": 0.2, "auc_share": 0.973, "log_loss_ratio": 1.021}
    text = format_metrics({**metrics, "bayes": bayes})
    assert "0.80000   the model went 97.3% of the way from 0.5" in text
    assert "0.20000   the model is 2.1% above the best possible" in text
    unknown = format_metrics({**metrics, "bayes": dict.fromkeys(bayes)})
    assert "Bayes AUC              undefined   the best any model could have" in unknown


def test_every_key_of_metrics_json_has_its_words_once():
    names = [words.name for words in (*METRIC_WORDS, *MORE_METRIC_WORDS)]
    assert len(names) == len(set(names))
    assert set(names) >= {*METRIC_NAMES, *GROUP_METRIC_NAMES}
