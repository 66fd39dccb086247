import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from featherweight.training.early_stopping import evaluate, since_best, values


@pytest.mark.parametrize("classes", [2, 5, 30])
def test_a_look_is_scikit_learns(classes):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(classes), 40).astype(np.float32)
    labels = rng.integers(0, classes, 40)
    row = evaluate(probs, labels)
    assert row["holdout_accuracy"] == pytest.approx(accuracy_score(labels, probs.argmax(1)))
    assert row["holdout_f1"] == pytest.approx(f1_score(labels, probs.argmax(1), average="macro"))
    assert row["holdout_loss"] == pytest.approx(log_loss(labels, probs, labels=range(classes)), rel=1e-4)


def history(*losses):
    return [{"holdout_loss": loss, "holdout_f1": -loss} for loss in losses]


@pytest.mark.parametrize("metric", ["loss", "f1"])
def test_since_best(metric):
    assert since_best(history(3, 2, 1), metric) == 0
    assert since_best(history(3, 1, 2, 2), metric) == 2
    assert since_best(history(3, 1, 1), metric) == 1  # as good is not better
    assert since_best(history(3, math.nan, 1, math.nan, 2), metric) == 1  # epochs without a look do not count
    assert since_best(history(3, 2.9, 2.8), metric, margin=0.15) == 0  # against the best, not the last
    assert since_best(history(3, 2.9), metric, margin=0.15) == 1


def test_lower_is_better_for_all_once_signed():
    assert list(values(history(1, math.nan, 2), "f1")) == list(values(history(1, 2), "loss"))


def test_a_score_rises_or_falls_as_the_competitions_metric_does():
    scores = [{"holdout_score": score} for score in (0.5, 0.6, 0.4)]
    assert since_best(scores, "score") == 1
    assert since_best(scores, "score", score_falls=True) == 0
    losses = [{"holdout_loss": loss} for loss in (3, 1, 2)]
    assert since_best(losses, "loss", score_falls=False) == 1  # the loss falls whatever the score does
