from __future__ import annotations

import re

import pytest

from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.config.labels import LabelKind
from dlrm.config.task import TaskConfig, TaskName
from dlrm.config.trainer import Monitor


@pytest.mark.parametrize("kind", list(LabelKind))
def test_the_task_is_that_of_the_labels_unless_said_otherwise(kind):
    assert TaskConfig().resolved(kind).value == kind.value


def test_one_class_a_row_may_be_trained_as_several():
    task = TaskConfig(name=TaskName.multilabel)
    assert task.resolved(LabelKind.multiclass) is TaskName.multilabel


def test_each_task_has_its_own_monitor():
    assert compose([]).monitor is Monitor.auc
    text = ["data=fasttext", "model=fasttext"]
    assert compose(text).monitor is Monitor.precision_at_1
    assert compose([*text, "trainer.monitor=log_loss"]).monitor is Monitor.log_loss


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["task.name=multilabel"],
            "task.name must be click or retrieval, as data.label_kind is",
        ),
        (
            ["data=fasttext", "trainer.monitor=auc"],
            "trainer.monitor must be one of precision_at_1, log_loss, recall_at_1 for",
        ),
        (
            ["data=fasttext", "trainer.positive_weight=2"],
            "trainer.positive_weight must be 1 but for the task click, but it is 2",
        ),
        (["task.top_k=[]"], "task.top_k must be numbers from 1 to 1000, but it is []"),
        (["task.top_k=[0]"], "task.top_k must be numbers from 1 to 1000"),
        (
            ["task.loss=one_vs_all", "task.draw_label=true"],
            "task.draw_label must be false for task.loss=one_vs_all",
        ),
        (
            ["data.label_delimiter=pipe"],
            "data.label_delimiter must be unset for label_kind=click",
        ),
        (
            ["data=fasttext", "data.sparse_features.text.multi_hot=false"],
            "data.sparse_features.text.multi_hot must be True for running text",
        ),
        (
            ["data=fasttext", "data.sparse_features.text.text.word_ngrams=2"],
            "data.sparse_features.text.text.num_buckets must be set",
        ),
        (
            ["data=fasttext", "data.fasttext.label_prefix=a b"],
            "data.fasttext.label_prefix must be text without spaces",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        compose(overrides)
