from __future__ import annotations

import pytest

from dlrm.config.errors import TrainingError
from dlrm.config.trainer import Monitor
from dlrm.early_stopping import EarlyStopping


def test_the_best_is_the_largest_auc_and_the_smallest_log_loss():
    auc = EarlyStopping(Monitor.auc, None)
    assert [auc.update(v, step=s) for s, v in enumerate([0.6, 0.7, 0.65])] == [
        True, True, False,
    ]  # fmt: skip
    assert (auc.best_value, auc.best_step) == (0.7, 1)
    loss = EarlyStopping(Monitor.log_loss, None)
    assert [loss.update(v, step=s) for s, v in enumerate([0.6, 0.7, 0.5])] == [
        True, False, True,
    ]  # fmt: skip


def test_an_equal_value_is_not_better():
    stopping = EarlyStopping(Monitor.auc, 1)
    stopping.update(0.7, step=1)
    assert not stopping.update(0.7, step=2)
    assert stopping.exhausted


def test_patience_counts_evaluations_in_a_row():
    stopping = EarlyStopping(Monitor.auc, 2)
    states = []
    for step, value in enumerate([0.5, 0.4, 0.6, 0.5, 0.5]):
        stopping.update(value, step=step)
        states.append(stopping.exhausted)
    assert states == [False, False, False, False, True]


def test_without_patience_training_goes_on():
    stopping = EarlyStopping(Monitor.auc, None)
    for step in range(100):
        stopping.update(0.5, step=step)
    assert not stopping.exhausted


def test_an_undefined_metric_is_an_error_that_names_it():
    with pytest.raises(TrainingError, match="trainer.monitor=auc must be defined"):
        EarlyStopping(Monitor.auc, None).update(None, step=1)


def test_state_survives_a_round_trip():
    first = EarlyStopping(Monitor.auc, 3)
    first.update(0.7, step=5)
    first.update(0.6, step=9)
    second = EarlyStopping(Monitor.auc, 3)
    second.load_state(first.state())
    assert second == first
