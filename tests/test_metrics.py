"""Metrics: values compared with scikit-learn, intervals compared with repeated sampling."""

from typing import Annotated

import numpy as np
import pytest
import sklearn.metrics
from pydantic import TypeAdapter
from scipy.stats import binom

from featherweight.config import Competition
from featherweight.evaluation import bootstrap, metrics
from featherweight.evaluation.metrics import METRICS, Score
from featherweight.schema import Choice, OneOf


def sample(count, classes, seed=0, sharpness=0.1):
    random = np.random.default_rng(seed)
    true = random.choice(classes, count, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    probs = random.dirichlet(np.full(classes, 0.5), count) + sharpness * np.eye(classes)[true]
    return probs / probs.sum(1, keepdims=True), true


WEIGHTS = np.arange(1.0, 21.0)
KEYS = {"weighted_log_loss": {"weights": WEIGHTS.tolist()}}
ONE = [name for name, metric in METRICS.items() if "one" in metric.targets]
SEVERAL = [name for name, metric in METRICS.items() if "several" in metric.targets]


def best(probs):
    return probs.argmax(1)


def hot(probs, true):
    return np.eye(probs.shape[1])[true]


def precision_at(probs, true, k):
    """Compute MAP@k image by image, as Kaggle's published code does."""
    scores = []
    for row, truth in zip(np.argsort(probs, axis=1)[:, ::-1], true, strict=True):
        wanted = set(np.flatnonzero(truth)) if np.ndim(truth) else {int(truth)}
        hits, total = 0, 0.0
        for rank, chosen in enumerate(row[:k], 1):
            if chosen in wanted:
                hits += 1
                total += hits / rank
        scores.append(total / min(len(wanted), k) if wanted else 0.0)
    return np.mean(scores)


REFERENCE = {
    "accuracy": lambda probs, true: (best(probs) == true).mean(),
    "macro_f1": lambda probs, true: sklearn.metrics.f1_score(true, best(probs), average="macro"),
    "micro_f1": lambda probs, true: sklearn.metrics.f1_score(true, best(probs), average="micro"),
    "weighted_f1": lambda probs, true: sklearn.metrics.f1_score(true, best(probs), average="weighted"),
    "macro_fbeta": lambda probs, true: sklearn.metrics.fbeta_score(true, best(probs), beta=2, average="macro"),
    "micro_fbeta": lambda probs, true: sklearn.metrics.fbeta_score(true, best(probs), beta=2, average="micro"),
    "balanced_accuracy": lambda probs, true: sklearn.metrics.balanced_accuracy_score(true, best(probs)),
    "quadratic_kappa": lambda probs, true: sklearn.metrics.cohen_kappa_score(true, best(probs), weights="quadratic"),
    "matthews": lambda probs, true: sklearn.metrics.matthews_corrcoef(true, best(probs)),
    "log_loss": lambda probs, true: sklearn.metrics.log_loss(true, probs, labels=np.arange(20)),
    "weighted_log_loss": lambda probs, true: sklearn.metrics.log_loss(
        true, probs, labels=np.arange(20), sample_weight=WEIGHTS[true]
    ),
    "brier": lambda probs, true: ((probs - hot(probs, true)) ** 2).sum(1).mean(),
    "auc": lambda probs, true: sklearn.metrics.roc_auc_score(true, probs, multi_class="ovr"),
    "mean_average_precision": lambda probs, true: sklearn.metrics.average_precision_score(
        hot(probs, true), probs, average="macro"
    ),
    "top_k": lambda probs, true: sklearn.metrics.top_k_accuracy_score(true, probs, k=5, labels=np.arange(20)),
    "map_at_k": lambda probs, true: precision_at(probs, true, 5),
}


def sets(count, classes=6, seed=0, sharpness=2.0):
    random = np.random.default_rng(seed)
    frequency = np.linspace(0.5, 0.1, classes)
    true = (random.random((count, classes)) < frequency).astype(np.uint8)
    logits = random.normal(size=true.shape) + np.log(frequency / (1 - frequency)) + sharpness * (true - frequency)
    return 1 / (1 + np.exp(-logits)), true


OF_SETS = {
    "accuracy": lambda probs, true: sklearn.metrics.accuracy_score(true, probs > 0.5),
    "macro_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs > 0.5, average="macro"),
    "micro_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs > 0.5, average="micro"),
    "weighted_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs > 0.5, average="weighted"),
    "macro_fbeta": lambda probs, true: sklearn.metrics.fbeta_score(true, probs > 0.5, beta=2, average="macro"),
    "micro_fbeta": lambda probs, true: sklearn.metrics.fbeta_score(true, probs > 0.5, beta=2, average="micro"),
    "samples_f1": lambda probs, true: sklearn.metrics.f1_score(true, probs > 0.5, average="samples", zero_division=0),
    "samples_fbeta": lambda probs, true: sklearn.metrics.fbeta_score(
        true, probs > 0.5, beta=2, average="samples", zero_division=0
    ),
    "log_loss": lambda probs, true: np.mean(
        [sklearn.metrics.log_loss(column, given) for column, given in zip(true.T, probs.T, strict=True)]
    ),
    "weighted_log_loss": lambda probs, true: np.average(
        [sklearn.metrics.log_loss(column, given) for column, given in zip(true.T, probs.T, strict=True)],
        weights=WEIGHTS[:6],
    ),
    "brier": lambda probs, true: (
        6
        * np.mean(
            [sklearn.metrics.brier_score_loss(column, given) for column, given in zip(true.T, probs.T, strict=True)]
        )
    ),
    "auc": lambda probs, true: sklearn.metrics.roc_auc_score(true, probs, average="macro"),
    "mean_average_precision": lambda probs, true: sklearn.metrics.average_precision_score(true, probs),
    "map_at_k": lambda probs, true: precision_at(probs, true, 5),
}


def test_every_metric_has_a_reference_here():
    assert set(REFERENCE) == set(ONE)
    assert set(OF_SETS) == set(SEVERAL)


@pytest.mark.parametrize("name", ONE)
def test_value_and_interval(name):
    probs, true = sample(400, 20)
    given = best(probs) if METRICS[name].input_kind == "answers" else probs
    keys = KEYS.get(name, {})
    score = METRICS[name](given, true, **keys, groups=None)
    assert score.value == pytest.approx(REFERENCE[name](probs, true), abs=1e-12)
    assert score.low < score.value <= score.high
    # Average precision of few images is too high by its nature: what it is of many may all lie below it.
    assert score.value < score.high or name == "mean_average_precision"
    assert (score.count, score.metric) == (400, name)
    assert METRICS[name](given, true, **keys, groups=None) == score, "the bootstrap must be seeded"


@pytest.mark.parametrize("name", SEVERAL)
def test_value_and_interval_of_sets(name):
    probs, true = sets(300)
    keys = {"weights": WEIGHTS[:6].tolist()} if name in KEYS else {}
    score = METRICS[name](probs, true, **keys, groups=None)
    assert score.value == pytest.approx(OF_SETS[name](probs, true), abs=1e-12)
    assert score.low < score.value < score.high
    if METRICS[name].input_kind == "answers":
        assert METRICS[name]((probs > 0.5).astype(np.uint8), true, **keys, groups=None) == score


def test_a_balanced_log_loss_takes_each_classs_mean_first():
    probs, true = sample(200, 4)
    means = [sklearn.metrics.log_loss(true[true == k], probs[true == k], labels=range(4)) for k in range(4)]
    assert METRICS["weighted_log_loss"].value(probs, true, balanced=True) == pytest.approx(np.mean(means))
    weighted = METRICS["weighted_log_loss"].value(probs, true, balanced=True, weights=[1.0, 2.0, 3.0, 4.0])
    assert weighted == pytest.approx(np.average(means, weights=[1, 2, 3, 4]))


def test_a_ranking_is_judged_as_it_was_written():
    ranked = np.array([[2, 0, -1], [1, 2, 0]])
    assert METRICS["map_at_k"].value(ranked, np.array([0, 1])) == pytest.approx((1 / 2 + 1) / 2)
    assert METRICS["top_k"].value(ranked, np.array([1, 0]), k=3) == 0.5
    assert METRICS["accuracy"].value(ranked, np.array([2, 0])) == 0.5
    many = np.array([[1, 0, 1], [0, 1, 0]])
    assert METRICS["map_at_k"].value(ranked, many) == pytest.approx(1.0)


def test_four_images_and_an_area_of_one_say_little():
    score = METRICS["auc"](
        np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]), np.array([0, 0, 1, 1]), groups=None
    )
    assert (score.value, score.high) == (1.0, 1.0)
    assert score.low < 0.5
    worst = METRICS["auc"](
        np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.9, 0.1]]), np.array([0, 0, 1, 1]), groups=None
    )
    assert (worst.value, worst.low) == (0.0, 0.0)
    assert worst.high > 0.5


@pytest.mark.parametrize("name", ONE)
def test_flawless_predictions_leave_doubt(name):
    true = np.arange(60) % 6
    probs = np.eye(6)[true]
    score = METRICS[name](probs, true, groups=None)
    assert score.value == pytest.approx(0.0 if score.of.lower_is_better else 1.0, abs=1e-9)
    if not score.of.lower_is_better:
        assert 0.85 < score.low < 0.98


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_give_finite_scores(name, count):
    true = np.zeros(count, dtype=np.int64)
    probs = np.tile([0.2, 0.5, 0.3], (count, 1))
    score = METRICS[name](probs, true, groups=None)
    assert np.isfinite([score.value, score.low, score.high]).all()


def test_auc_with_ties_and_an_absent_class():
    true = np.array([0, 0, 1, 1, 0, 1])
    probs = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0.2, 0.8, 0], [0.9, 0.1, 0], [0.5, 0.5, 0]])
    binary = sklearn.metrics.roc_auc_score(true, probs[:, 1])
    assert METRICS["auc"](probs, true, groups=None).value == pytest.approx(binary)


def test_log_loss_clips_and_rescales():
    score = METRICS["log_loss"](np.array([[0.0, 2.0], [0.5, 0.5]]), np.array([0, 1]), groups=None)
    assert score.value == pytest.approx((-np.log(1e-15 / 2) + np.log(2)) / 2, rel=1e-3)
    assert score.of.lower_is_better
    assert "%" not in str(score).replace("95 %", "")


def test_top_k_of_fewer_classes_is_certain():
    probs, true = sample(50, 4)
    assert METRICS["top_k"](probs, true, k=5, groups=None).value == 1.0
    assert METRICS["top_k"](probs, true, k=1, groups=None).value == pytest.approx((probs.argmax(1) == true).mean())


def test_score_of_takes_classes_of_probabilities_where_the_metric_wants_classes():
    metric = Competition.model_fields["metric"]
    choose = TypeAdapter(metric.rebuild_annotation()).validate_python
    probs, true = sample(100, 5)
    assert metrics.score_of(choose("macro_f1"), probs, true, groups=None) == METRICS["macro_f1"](
        probs.argmax(1), true, groups=None
    )
    assert metrics.score_of(choose("log_loss"), probs, true, groups=None) == METRICS["log_loss"](
        probs, true, groups=None
    )
    with pytest.raises(ValueError, match="probabilities"):
        metrics.score_of(choose("log_loss"), probs.argmax(1), true, groups=None)


def test_accuracy_has_the_mid_p_interval():
    """8 of 10: Clopper and Pearson give 0.4439 to 0.9748; mid-P leaves out half of the probability of exactly 8."""
    score = METRICS["accuracy"](np.array([1] * 8 + [0] * 2), np.ones(10, dtype=np.int64), groups=None)
    assert (score.value, score.count) == (0.8, 10)
    below, above = binom.pmf(8, 10, score.low) / 2, binom.pmf(8, 10, score.high) / 2
    assert binom.sf(8, 10, score.low) + below == pytest.approx(0.025)
    assert binom.cdf(7, 10, score.high) + above == pytest.approx(0.025)
    assert str(score) == "80.00% (95 % interval 48.05% to 96.50%, 10 images)"


def test_a_perfect_score_still_has_a_lower_end():
    score = METRICS["accuracy"](np.ones(100, dtype=np.int64), np.ones(100, dtype=np.int64), groups=None)
    assert score.high == 1
    assert score.low == pytest.approx(0.05 ** (1 / 100))


@pytest.mark.parametrize("classes", [2, 30])
@pytest.mark.parametrize("name", ONE)
def test_the_value_alone_is_that_of_the_whole_score(name, classes):
    probs, true = sample(200, classes, sharpness=0.3)
    metric = OneOf(METRICS).validate({"name": name, **({"k": 1} if name == "top_k" else {})})
    assert metrics.value(metric, probs, true) == pytest.approx(
        metrics.score_of(metric, probs, true, groups=None).value, abs=1e-12
    )
    if METRICS[name].input_kind == "answers":
        assert metrics.value(metric, probs.argmax(1), true) == metrics.value(metric, probs, true)


def test_a_stored_score_is_read_as_it_was():
    score = METRICS["auc"](*sample(50, 3), groups=None)
    assert Score.read(vars(score)) == score


@pytest.mark.parametrize("name", ONE)
def test_resamples_are_the_metric_of_the_images_drawn_and_the_same_images_for_all(name):
    """Compares each metric with its value on every resample's images; two equal classifiers have no difference."""
    probs, true = sample(300, 6)
    metric = TypeAdapter(Annotated[Choice, OneOf(METRICS)]).validate_python(
        {"name": name, **({"k": 2} if name == "top_k" else {})}
    )
    other = sample(300, 6, sharpness=0.3)[0]
    quick = metrics.resampled(metric, [probs, other, probs], true, 40, groups=None)
    assert quick.shape == (3, 40)
    assert (quick[0] == quick[2]).all()
    drawn = [row.astype(int) for rows in bootstrap.resamples(300, 40) for row in rows]
    index = [np.repeat(np.arange(300), times) for times in drawn]
    slow = [[metrics.value(metric, each[at], true[at]) for at in index] for each in (probs, other)]
    tolerance = 0.02 if name == "auc" else 1e-12  # its function is the area's first-order expansion
    np.testing.assert_allclose(quick[:2], slow, atol=tolerance)
    assert quick[0].std() > 0.005


def test_top_1_is_the_accuracy_on_ties_too():
    probs, true = np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0])
    assert METRICS["top_k"].value(probs, true, k=1) == METRICS["accuracy"].value(probs, true) == 0.5


@pytest.mark.parametrize("metric", ["accuracy", "matthews", "quadratic_kappa", "balanced_accuracy", "auc", "log_loss"])
def test_answers_by_chance_have_the_score_that_follows_from_the_frequencies(metric):
    probs, true = sample(5000, 4, sharpness=1)
    answers, classes = (np.bincount(each, minlength=4) / 5000 for each in (best(probs), true))
    expected = {
        "accuracy": (answers * classes).sum(),
        "balanced_accuracy": 1 / 4,
        "auc": 1 / 2,
        "log_loss": -(np.log(probs) @ classes).mean(),
    }
    judged = probs if metric in ("auc", "log_loss") else best(probs)
    assert METRICS[metric].by_chance(judged, true, {}) == pytest.approx(expected.get(metric, 0), abs=0.02)
    assert METRICS[metric].value(judged, true) != pytest.approx(expected.get(metric, 0), abs=0.1)
