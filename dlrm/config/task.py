"""The ``task`` section: what is predicted, by which loss, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dlrm.config.checks import require
from dlrm.config.labels import LabelKind
from dlrm.config.trainer import Monitor


class TaskName(Enum):
    """What a model's logits say."""

    click = "click"
    """One logit a row: whether it is a click."""
    multiclass = "multiclass"
    """A logit a class: which one the row has."""
    multilabel = "multilabel"
    """A logit a class: which ones the row has."""
    retrieval = "retrieval"
    """A vector of the row's query and one of its document: which document of all a
    click belongs to."""


class ClassLoss(Enum):
    """How logits of classes are turned into a loss and into probabilities."""

    softmax = "softmax"
    """Classes compete: probabilities sum to 1, a row's loss is the mean of -log p over
    its classes."""
    one_vs_all = "one_vs_all"
    """Each class is a yes-or-no of its own: a row's loss is the sum of all classes'
    log losses."""


MONITORS = {
    TaskName.click: (
        Monitor.auc,
        Monitor.log_loss,
        Monitor.normalized_entropy,
        Monitor.pr_auc,
        Monitor.accuracy,
    ),
    TaskName.multiclass: (
        Monitor.precision_at_1,
        Monitor.log_loss,
        Monitor.recall_at_1,
        Monitor.accuracy,
    ),
    TaskName.multilabel: (
        Monitor.precision_at_1,
        Monitor.log_loss,
        Monitor.recall_at_1,
    ),
    TaskName.retrieval: (Monitor.recall_at_10, Monitor.mrr, Monitor.recall_at_1),
}
"""What each task's evaluations can be compared by; the first is the usual one."""
_TASKS_OF = {
    LabelKind.click: (TaskName.click, TaskName.retrieval),
    LabelKind.multiclass: (TaskName.multiclass, TaskName.multilabel),
    LabelKind.multilabel: (TaskName.multilabel,),
}
"""The tasks that each kind of label can serve, the usual one first."""


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    """Loss, link and metrics of a run."""

    name: TaskName | None = None
    """The one of ``data.label_kind`` where not set."""
    loss: ClassLoss = ClassLoss.softmax
    """Of tasks with classes."""
    draw_label: bool = False
    """For ``softmax``: train on one of a row's classes, drawn anew in each step, in
    place of their mean; fastText's rule."""
    frequency_correction: bool = True
    """Of ``retrieval``: take the log of a document's share of the training rows off its
    scores in training, as frequent documents are compared with most often."""
    top_k: list[int] = field(default_factory=lambda: [1, 5])
    """The k of precision and recall at k, beside 1; predictions list as many classes
    as the largest."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        sound = len(self.top_k) > 0 and all(1 <= k <= 1000 for k in self.top_k)
        require(sound, "task.top_k", "numbers from 1 to 1000", self.top_k)
        require(
            not self.draw_label or self.loss is ClassLoss.softmax,
            "task.draw_label",
            f"false for task.loss={self.loss.value}, which reads all labels",
            self.draw_label,
        )

    def resolved(self, kind: LabelKind) -> TaskName:
        """Return the task that labels of this kind are for.

        Raises:
            ConfigError: ``name`` is another one.
        """
        known = _TASKS_OF[kind]
        name = self.name or known[0]
        require(
            name in known,
            "task.name",
            f"{' or '.join(task.value for task in known)}, "
            f"as data.label_kind is {kind.value}",
            name.value,
        )
        return name

    def monitor(self, kind: LabelKind, chosen: Monitor | None) -> Monitor:
        """Return what evaluations are compared by: ``chosen``, or the task's own.

        Raises:
            ConfigError: The task has no such metric.
        """
        known = MONITORS[self.resolved(kind)]
        monitor = chosen or known[0]
        names = ", ".join(metric.value for metric in known)
        task = self.resolved(kind).value
        wanted = f"one of {names} for the task {task}"
        require(monitor in known, "trainer.monitor", wanted, monitor.value)
        return monitor
