"""Intervals have the stated coverage: the short version of `./run.sh bench coverage`."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import ROOT
from featherweight.config import load_competition
from featherweight.evaluation import bootstrap, intervals, jackknife, stratification
from featherweight.evaluation.calibration import temper_cross_fitted
from featherweight.evaluation.class_metrics import Mean
from featherweight.evaluation.metrics import METRICS, score_of
from featherweight.runs import selection
from featherweight.schema import OneOf

DIGITS = load_competition("digits")
sys.path.insert(0, str(ROOT / "benchmarks"))
spec = importlib.util.spec_from_file_location("coverage_of_intervals", ROOT / "benchmarks" / "coverage.py")
bench = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = bench
spec.loader.exec_module(bench)


@pytest.mark.some(4)
@pytest.mark.parametrize("world", bench.WORLDS)
def test_the_intervals_of_every_metric_hold(world, monkeypatch):
    monkeypatch.setattr(bench, "POPULATION", 5000)
    monkeypatch.setattr(bench, "PIECE", 5000)
    monkeypatch.setattr(bench, "CLASSIFIERS", {"good": (1.5, 2.5)})
    found = bench.cell(world, "good", 100, 100, list(METRICS))
    assert set(found) == set(bench.WORLDS[world].metrics())
    assert min(row["held"] for row in found.values()) >= 0.88, found


def test_pseudo_values_of_a_mean_are_its_values_and_those_of_cells_those_of_images():
    random = np.random.default_rng(0)
    values = random.random(50)
    assert (jackknife.pseudo_values(Mean(values), 50) == values).all()
    slow = jackknife.pseudo_values(lambda weights: weights @ values / weights.sum(1), 50)
    assert np.allclose(np.sort(slow), np.sort(values))  # groups of one image, dealt in another order
    true, answers = random.integers(3, size=80), random.integers(3, size=80)
    form = METRICS["macro_f1"].function
    cells, counts = np.unique(true * 3 + answers, return_counts=True)
    by_cells = jackknife.of_cells(form(cells % 3, cells // 3), counts)
    assert np.allclose(np.sort(by_cells), np.sort(jackknife.pseudo_values(form(answers, true), 80)))


def test_the_prediction_for_many_images_goes_on_from_that_for_fewer():
    few, many = (intervals.predictive_interval(0.9, 100_000, intervals.WHOLE + by) for by in (0, 1))
    assert many == pytest.approx(few, abs=2e-4)


def test_groups_of_a_mean_contribute_by_their_size():
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(60), random.integers(1, 30, 60))
    values = random.random(60)[group]
    mean = Mean(values)
    closed, apart = jackknife.of_groups(mean, group), jackknife.of_groups(lambda counts: mean(counts), group)
    assert closed.mean() == pytest.approx(values.mean())
    assert closed.std() == pytest.approx(apart.std(), rel=0.03)


def test_a_weighted_mean_contributes_to_first_order():
    random = np.random.default_rng(0)
    values, weights = random.random(400), random.uniform(1, 3, 400)
    closed = Mean(values, weights)
    apart = jackknife.pseudo_values(lambda counts: closed(counts), 400)
    errors = [each.std() / len(each) ** 0.5 for each in (closed.contributions, apart)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert np.isclose(closed.contributions.mean(), closed(np.ones((1, 400)))[0])


@pytest.mark.parametrize("count", [30, 100, 1000])
def test_a_proportion_of_many_truths_holds_in_95_of_100_cases(count):
    random = np.random.default_rng(count)
    ends = [intervals.proportion(hits, count) for hits in range(count + 1)]
    for low, high in ((0.3, 0.7), (0.8, 0.95)):
        truths = random.uniform(low, high, 4000)
        held = [
            ends[hits][0] <= p <= ends[hits][1] for p, hits in zip(truths, random.binomial(count, truths), strict=True)
        ]
        assert 0.93 <= np.mean(held) <= 0.97


def test_flawless_and_hopeless_scores_leave_doubt_at_one_end_alone():
    assert intervals.proportion(0, 50) == (0.0, pytest.approx(1 - 0.05 ** (1 / 50)))
    assert intervals.proportion(50, 50) == (pytest.approx(0.05 ** (1 / 50)), 1.0)
    low, high = intervals.score_interval(1.0, np.ones(100), 50)
    assert high == 1.0
    assert 0.9 < low < 0.97
    assert intervals.score_interval(-1.0, -np.ones(100), 50, (-1.0, 1.0))[0] == -1.0


def test_the_interval_of_a_loss_leans_to_where_its_tail_is_and_one_image_more_may_be_wrong():
    tail = np.random.default_rng(0).lognormal(size=100)
    low, high = intervals.hall_t_interval(tail.mean(), tail, tail.mean())
    assert high - tail.mean() > 1.2 * (tail.mean() - low)
    even = np.full(30, 0.01)
    assert intervals.hall_t_interval(0.01, even, 0.01) == (0.01, 0.01)
    low, high = intervals.hall_t_interval(0.01, even, 3.0)
    assert 0.0 <= low <= 0.01 < 0.05 < high < 1.0


@pytest.mark.parametrize("metric", ["log_loss", "weighted_log_loss", "brier", "quadratic_kappa"])
def test_a_holdout_of_one_group_is_one_observation(metric):
    random = np.random.default_rng(0)
    labels, probs, group = random.integers(3, size=30), random.dirichlet(np.ones(3), 30), np.zeros(30, np.int64)
    keys = {"balanced": True} if metric == "weighted_log_loss" else {}
    with np.errstate(all="raise"):
        score = METRICS[metric](probs, labels, groups=group, **keys)
        apart = METRICS[metric](probs, labels, groups=np.arange(30) // 3, **keys)
    assert score.low < apart.low < score.value < apart.high < score.high < np.inf


def frames(groups, size, random):
    """Make predictions that are 70 % correct by image, with each image several times: predictions, classes, groups."""
    right = np.repeat(random.random(groups) < 0.7, size).astype(np.int64)
    return right, np.ones(groups * size, dtype=np.int64), np.repeat(np.arange(groups), size)


def test_frames_of_one_picture_are_one_draw_of_luck():
    random, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(200):
        answers, true, related = frames(30, 7, random)
        for place, known in enumerate((None, related)):
            score = METRICS["accuracy"](answers, true, groups=known)
            held[place] += score.low <= 0.7 <= score.high
    assert held[0] < 0.6 * 200
    assert held[1] >= 0.91 * 200


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "log_loss", "brier", "auc", "matthews"])
def test_of_frames_every_metric_is_as_sure_as_of_their_pictures(metric):
    random = np.random.default_rng(1)
    labels = random.integers(3, size=60)
    logits = random.normal(size=(60, 3)) + 1.5 * np.eye(3)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    group = np.repeat(np.arange(60), 5)
    one, many = METRICS[metric](probs, labels, groups=None), METRICS[metric](probs[group], labels[group], groups=group)
    assert many.value == pytest.approx(one.value)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.12)
    assert METRICS[metric](probs, labels, groups=np.arange(60)) == one  # nobody is related: to the last digit


def test_flawless_frames_leave_the_doubt_of_their_pictures():
    answers = np.ones(210, dtype=np.int64)
    low = METRICS["accuracy"](answers, answers, groups=np.repeat(np.arange(30), 7)).low
    assert low == pytest.approx(METRICS["accuracy"](answers[:30], answers[:30], groups=None).low, abs=0.03)


def test_folds_and_halves_divide_no_group():
    groups = np.repeat(np.arange(50), 4)
    fold, half = bootstrap.fold_of(200, groups), bootstrap.halves(200, groups)
    assert all(len(set(part[groups == group].tolist())) == 1 for part in (fold, half) for group in range(50))
    assert set(np.bincount(fold)) == {40}
    assert bootstrap.fold_of(200, np.arange(200)).tolist() == bootstrap.fold_of(200, None).tolist()
    assert not bootstrap.fold_of(7, np.zeros(7, np.int64)).any()


def test_no_temperature_is_fitted_to_copies_of_what_it_tempers():
    """Images with random classes, ten copies each: a temperature fitted on copies is overconfident."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    labels = random.integers(3, size=12)[groups]
    probs = random.dirichlet(np.full(3, 0.2), 12).astype(np.float32)[groups]
    losses = [
        METRICS["log_loss"].value(temper_cross_fitted(probs, labels, groups=of).astype(np.float64), labels)
        for of in (groups, None)
    ]
    assert losses[0] > losses[1]
    one = np.zeros(120, np.int64)
    assert (temper_cross_fitted(probs, labels, groups=one) == probs).all()  # nothing else to fit it to


def test_no_fifth_is_tempered_by_its_own_labels():
    random = np.random.default_rng(0)
    probs, fold = random.dirichlet(np.ones(3), 50).astype(np.float32), bootstrap.fold_of(50, None)
    right = probs.argmax(1)
    wrong = np.where(fold == 0, (right + 1) % 3, right)
    one, other = (temper_cross_fitted(probs, labels, groups=None) for labels in (right, wrong))
    assert (one[fold == 0] == other[fold == 0]).all()
    assert (one[fold == 1] != other[fold == 1]).any()


def test_the_bag_holds_no_copy_of_what_is_outside_of_it(tmp_path, monkeypatch):
    """The optimism of the best of four guessing runs is that of ten images, regardless of the number of copies."""
    random = np.random.default_rng(0)
    labels = random.integers(2, size=10)
    guesses = [random.random((10, 2)).astype(np.float32) for _ in range(4)]
    guesses.sort(key=lambda probs: -(probs.argmax(1) == labels).mean())

    def optimism(times, related):
        rows = np.repeat(np.arange(10), times)
        runs = [
            SimpleNamespace(
                name=str(number),
                competition=DIGITS,
                split=SimpleNamespace(holdout=list(range(len(rows)))),
                temperature=tmp_path / "none",
                folder=tmp_path,
                is_ensemble=True,
                weighted_models=[],
                probs=lambda part, probs=probs: probs[rows],
                groups=lambda ids: rows if related else None,
            )
            for number, probs in enumerate(guesses)
        ]
        monkeypatch.setattr(selection, "on_the_same_images", lambda run: runs)
        return selection.among_runs(runs[0], labels[rows])[0]

    assert optimism(10, related=True) == pytest.approx(optimism(1, related=False))
    assert optimism(10, related=False) < 0.5 * optimism(1, related=False)


def test_one_group_of_related_images_is_one_observation():
    score = METRICS["accuracy"](
        np.r_[np.ones(70, int), np.zeros(30, int)], np.ones(100, int), groups=np.zeros(100, int)
    )
    assert score.low < 0.1
    assert score.high > 0.97


def test_of_thousands_of_classes_parts_are_left_out_and_the_interval_stays(monkeypatch):
    random = np.random.default_rng(0)
    true, other = random.integers(60, size=3000), random.integers(60, size=3000)
    answers = np.where(random.random(3000) < 0.7, true, other)
    of_cells = [METRICS[metric](answers, true, groups=None) for metric in ("macro_f1", "matthews")]
    monkeypatch.setattr(jackknife, "CELLS", 50)
    for one, metric in zip(of_cells, ("macro_f1", "matthews"), strict=True):
        parts = METRICS[metric](answers, true, groups=None)
        assert parts.high - parts.low == pytest.approx(one.high - one.low, rel=0.15)


def test_an_interval_of_few_images_per_class_reaches_as_far_as_stratification_flatters():
    """Recall follows the training images. Equally large classes, and many images, have the plain interval."""
    accuracy = DIGITS.metric

    def judged(counts, labelled):
        held = np.repeat(np.arange(4), counts)
        answers = np.where(np.concatenate([np.arange(n) < n * n // max(counts) for n in counts]), held, 4)
        as_drawn = score_of(accuracy, answers, held, groups=None)
        return as_drawn, stratification.score_of_part(accuracy, answers, held, groups=None, labelled=labelled)

    plain, told = judged([8, 4, 2, 2], 30)
    assert (told.value, told.high, told.count) == (plain.value, plain.high, plain.count)
    assert 0.05 < plain.low - told.low < plain.value - np.mean([1, 0.5, 0, 0])
    for plain, told in (judged([4, 4, 4, 4], 30), judged([8, 4, 2, 2], None), judged([800, 400, 200, 200], 5300)):
        assert told == plain
    loss = OneOf(METRICS).validate("log_loss")
    held, probs = np.repeat([0, 1], [12, 6]), np.repeat([[0.9, 0.1], [0.7, 0.3]], [12, 6], axis=0)
    plain = score_of(loss, probs, held, groups=None)
    told = stratification.score_of_part(loss, probs, held, groups=None, labelled=18)
    assert told.low == plain.low
    assert told.high > plain.high + 0.05


def test_a_stratified_holdout_of_few_images_flatters_and_weights_of_the_population_do_not():
    """A class is recognised the better the more training images it has; 100 images of ten classes, 30 held out."""
    random, off = np.random.default_rng(0), []
    for _ in range(400):
        counts = random.multinomial(100, np.full(10, 0.1))
        held = np.repeat(np.arange(10), np.round(0.3 * counts).astype(int))
        recognised = (counts / 15).clip(0.1, 0.95)
        right = random.random(len(held)) < recognised[held]
        weights = stratification.population_weights(held, 100)
        off.append((right.mean() - recognised.mean(), weights @ right / weights.sum() - recognised.mean()))
    plain, weighted = np.mean(off, axis=0)
    assert plain > 0.04
    assert abs(weighted) < 0.02
    uneven = np.repeat([0, 1], [900, 100])
    assert np.allclose(stratification.population_weights(uneven, 1000), 1, atol=0.01)  # no chance
    assert np.allclose(stratification.population_weights(np.zeros(5, int), 5), 1)
