"""Metrics: values against scikit-learn called directly, intervals against repeated sampling."""

from typing import Annotated

import numpy as np
import pytest
import sklearn.metrics
from pydantic import TypeAdapter

from featherweight.config import Competition
from featherweight.evaluation import bootstrap, metrics
from featherweight.evaluation.metrics import METRICS, Score
from featherweight.schema import Choice, OneOf


def sample(count, classes, seed=0, sharpness=0.1):
    random = np.random.default_rng(seed)
    true = random.choice(classes, count, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    probs = random.dirichlet(np.full(classes, 0.5), count) + sharpness * np.eye(classes)[true]
    return probs / probs.sum(1, keepdims=True), true


REFERENCE = {
    "accuracy": lambda probs, true: (probs.argmax(1) == true).mean(),
    "macro_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs.argmax(1), average="macro"),
    "micro_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs.argmax(1), average="micro"),
    "weighted_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs.argmax(1), average="weighted"),
    "balanced_accuracy": lambda probs, true: sklearn.metrics.balanced_accuracy_score(true, probs.argmax(1)),
    "quadratic_kappa": lambda probs, true: sklearn.metrics.cohen_kappa_score(
        true, probs.argmax(1), weights="quadratic"
    ),
    "log_loss": lambda probs, true: -np.log(probs[np.arange(len(true)), true]).mean(),
    "auc": lambda probs, true: sklearn.metrics.roc_auc_score(true, probs, multi_class="ovr"),
    "top_k": lambda probs, true: (np.argsort(-probs, 1)[:, :5] == true[:, None]).any(1).mean(),
}


def test_every_metric_has_a_reference_here():
    assert set(REFERENCE) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_value_and_interval(name):
    probs, true = sample(400, 20)
    given = probs if METRICS[name].judges == "probabilities" else probs.argmax(1)
    score = METRICS[name](given, true)
    assert score.value == pytest.approx(REFERENCE[name](probs, true), abs=1e-12)
    assert score.low < score.value < score.high
    assert score.count == 400
    assert METRICS[name](given, true) == score, "the bootstrap must be seeded"


@pytest.mark.parametrize("name", METRICS)
def test_interval_is_as_wide_as_scores_scatter(name):
    """The interval's length over four is a standard error: it must be that of scores of fresh samples."""
    values, lengths = [], []
    for seed in range(60):
        probs, true = sample(300, 20, seed)
        score = METRICS[name](probs, true)
        values.append(score.value)
        lengths.append(score.high - score.low)
    assert np.mean(lengths) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.35)


@pytest.mark.parametrize("name", METRICS)
def test_flawless_predictions_leave_doubt(name):
    true = np.arange(60) % 6
    probs = np.eye(6)[true]
    score = METRICS[name](probs, true)
    best = 0.0 if name == "log_loss" else 1.0
    assert score.value == pytest.approx(best, abs=1e-9)
    if name not in ("log_loss", "auc"):
        assert score.low == pytest.approx(0.9404, abs=1e-3)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_give_finite_scores(name, count):
    true = np.zeros(count, dtype=np.int64)
    probs = np.tile([0.2, 0.5, 0.3], (count, 1))
    score = METRICS[name](probs, true)
    assert np.isfinite([score.value, score.low, score.high]).all()


def test_auc_with_ties_and_an_absent_class():
    true = np.array([0, 0, 1, 1, 0, 1])
    probs = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0.2, 0.8, 0], [0.9, 0.1, 0], [0.5, 0.5, 0]])
    binary = sklearn.metrics.roc_auc_score(true, probs[:, 1])
    assert METRICS["auc"](probs, true).value == pytest.approx(binary)


def test_log_loss_clips_and_rescales():
    score = METRICS["log_loss"](np.array([[0.0, 2.0], [0.5, 0.5]]), np.array([0, 1]))
    assert score.value == pytest.approx((-np.log(1e-15 / 2) + np.log(2)) / 2, rel=1e-3)
    assert score.of.lower_is_better
    assert "%" not in str(score).replace("95 %", "")


def test_top_k_of_fewer_classes_is_certain():
    probs, true = sample(50, 4)
    assert METRICS["top_k"](probs, true, k=5).value == 1.0
    assert METRICS["top_k"](probs, true, k=1).value == pytest.approx((probs.argmax(1) == true).mean())


def test_judge_takes_classes_of_probabilities_where_the_metric_wants_classes():
    metric = Competition.model_fields["metric"]
    choose = TypeAdapter(metric.rebuild_annotation()).validate_python
    probs, true = sample(100, 5)
    assert metrics.judge(choose("macro_f1"), probs, true) == METRICS["macro_f1"](probs.argmax(1), true)
    assert metrics.judge(choose("log_loss"), probs, true) == METRICS["log_loss"](probs, true)
    with pytest.raises(ValueError, match="probabilities"):
        metrics.judge(choose("log_loss"), probs.argmax(1), true)


def test_accuracy_has_the_exact_interval():
    """8 of 10 by Clopper and Pearson: 0.4439 to 0.9748 (their 1934 tables, and every statistics package)."""
    score = METRICS["accuracy"](np.array([1] * 8 + [0] * 2), np.ones(10, dtype=np.int64))
    assert (score.value, score.count) == (0.8, 10)
    assert (score.low, score.high) == (pytest.approx(0.4439, abs=1e-4), pytest.approx(0.9748, abs=1e-4))
    assert str(score) == "80.00% (95 % interval 44.39% to 97.48%, 10 images)"


def test_a_perfect_score_still_has_a_lower_end():
    score = METRICS["accuracy"](np.ones(100, dtype=np.int64), np.ones(100, dtype=np.int64))
    assert score.high == 1
    assert score.low == pytest.approx(0.025 ** (1 / 100))


@pytest.mark.parametrize("classes", [2, 30])
@pytest.mark.parametrize("name", METRICS)
def test_the_value_alone_is_that_of_the_whole_score(name, classes):
    probs, true = sample(200, classes, sharpness=0.3)
    metric = OneOf(METRICS).validate({"name": name, **({"k": 1} if name == "top_k" else {})})
    assert metrics.value(metric, probs, true) == pytest.approx(metrics.judge(metric, probs, true).value, abs=1e-12)
    if METRICS[name].judges == "answers":
        assert metrics.value(metric, probs.argmax(1), true) == metrics.value(metric, probs, true)


def test_a_score_of_an_older_run_is_read_with_its_direction():
    assert Score.read({"value": 0.2, "low": 0.1, "high": 0.3, "count": 5, "lower_is_better": True}).of.lower_is_better
    assert (
        str(Score.read({"value": 0.2, "low": 0.1, "high": 0.3, "count": 5, "lower_is_better": False}))[:6] == "20.00%"
    )
    score = METRICS["auc"](*sample(50, 3))
    assert Score.read(vars(score)) == score


@pytest.mark.parametrize("name", METRICS)
def test_resamples_are_the_metric_of_the_images_drawn_and_the_same_images_for_all(name):
    """The forms against the metric of every resample's images; of two equal classifiers nothing is left."""
    probs, true = sample(300, 6)
    metric = TypeAdapter(Annotated[Choice, OneOf(METRICS)]).validate_python(
        {"name": name, **({"k": 2} if name == "top_k" else {})}
    )
    other = sample(300, 6, sharpness=0.3)[0]
    quick = metrics.resampled(metric, [probs, other, probs], true, 40)
    assert quick.shape == (3, 40)
    assert (quick[0] == quick[2]).all()
    drawn = [row.astype(int) for rows in bootstrap.resamples(300, 40) for row in rows]
    index = [np.repeat(np.arange(300), times) for times in drawn]
    slow = [[metrics.value(metric, each[at], true[at]) for at in index] for each in (probs, other)]
    tolerance = 0.02 if name == "auc" else 1e-12  # its form is the area's first-order expansion
    np.testing.assert_allclose(quick[:2], slow, atol=tolerance)
    assert quick[0].std() > 0.005
