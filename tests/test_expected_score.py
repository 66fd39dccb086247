"""The score that a run expects on the leaderboard, and how much of it can be estimated without labels."""

import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from featherweight.cli.main import main
from featherweight.config import load_recipe
from featherweight.evaluation import intervals, leaderboard, stratification, unlabelled
from featherweight.evaluation.calibration import temper_cross_fitted
from featherweight.evaluation.metrics import METRICS, Score
from featherweight.inspection.checks import shift
from featherweight.report import tables
from featherweight.runs import division, evaluate, expected_score, fitted, query, selection, without_labels
from featherweight.runs.division import RegroupedImages
from featherweight.runs.expected_score import Expected
from featherweight.runs.run import Run
from featherweight.runs.without_labels import error_under
from featherweight.runs.wrong_labels import WrongLabels
from featherweight.schema import OneOf

NONE = (0.0, {})
RANDOM = np.random.default_rng(3)


def load(metric: str):
    """Return the choice of a metric, as a competition's file names it."""
    return OneOf(METRICS).validate(metric)


def classifier(count: int, strength: float, seed: int):
    """Make probabilities [N, 5] and draw the classes from them, so that the confidence is calibrated."""
    random = np.random.default_rng(seed)
    logits = strength * random.normal(size=(count, 5))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probs, np.array([random.choice(5, p=row) for row in probs])


def test_a_domain_classifier_sees_a_shift_and_only_a_shift():
    one, same = RANDOM.normal(size=(2, 300, 6))
    found = unlabelled.domain(one, same)
    assert not found.shifted
    assert found.weights.mean() == pytest.approx(1)
    moved = unlabelled.domain(one, same + 1)
    assert moved.shifted
    assert moved.auc.low > 0.8
    heavy = moved.weights > np.quantile(moved.weights, 0.8)
    assert one[heavy].mean() > one[~heavy].mean() + 0.3  # those that look like the others count more


@pytest.mark.parametrize(("held", "predicted"), [(1, None), (None, 1), (1, 1), (3, 3)])
def test_of_few_groups_no_shift_is_looked_for(held, predicted):
    """A holdout of one patient, or images to predict of one video: a fold would have one part alone."""
    random = np.random.default_rng(0)
    parts = random.normal(size=(60, 5)), random.normal(size=(90, 5)) + 3
    groups = [
        None if of is None else np.arange(len(part)) % of for of, part in zip((held, predicted), parts, strict=True)
    ]
    found = unlabelled.domain(*parts, tuple(groups))
    assert (found.auc.value, found.shifted, found.weights.tolist()) == (0.5, False, [1.0] * 60)
    images = [random.integers(0, 256, (len(part), 8, 8, 3), dtype=np.uint8) for part in parts]
    related = [np.arange(len(part)) if of is None else of for of, part in zip(groups, parts, strict=True)]
    assert shift(*images, related)[0].low == 0.0


def test_frames_of_the_same_pictures_are_told_from_others_by_no_shift():
    """Holdout: 30 images of seven frames; to predict: 200 other images; all of one distribution."""
    random = np.random.default_rng(4)
    related = np.repeat(np.arange(30), 7)
    frames = random.normal(size=(30, 8))[related] + 0.1 * random.normal(size=(210, 8))
    others = random.normal(size=(200, 8))
    assert not unlabelled.domain(frames, others, (related, None)).shifted
    assert not unlabelled.domain(others, frames, (None, related)).shifted
    assert unlabelled.domain(frames, others + 1.5, (related, np.arange(200))).shifted


def test_a_mean_of_folds_has_their_shift_and_is_not_compared_with_one_of_them(finished, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(finished))
    run = Run.find("first")
    labels = np.zeros(len(run.split.holdout), dtype=np.int64)
    told = Expected.read(run)
    monkeypatch.setattr(unlabelled, "domain", lambda *given: pytest.fail("compared"))
    monkeypatch.setattr(expected_score, "_adjusted_by_other_runs", lambda run, holdout, labels, seen: seen)
    monkeypatch.setattr(expected_score, "are_folds", lambda runs: True)
    expected = expected_score.expect(run, run.result.holdout, labels)
    assert (expected.auc, expected.estimates, expected.shifted) == (told.auc, told.estimates, False)
    assert (expected.folds, expected.fold_gain) == (1, 0.0)  # a mean of one model


def seen_by_fold(auc, shifted, **estimates) -> Expected:
    part = (0.0, 0.0, 0.0, 10)
    ends = None if auc is None else (auc, auc - 0.1, auc + 0.1)
    return Expected("accuracy", part, part, True, auc=ends, shifted=shifted, estimates=estimates)


@pytest.mark.parametrize(
    ("folds", "shift"),
    [
        (
            [
                seen_by_fold(0.6, True, ATC=0.8, seeds=0.5),
                seen_by_fold(0.7, True, ATC=0.6),
                seen_by_fold(0.5, False, ATC=0.7),
            ],
            ((0.6, 0.5, 0.7), True, {"ATC": 0.7}, error_under(0.6)),
        ),
        (
            [seen_by_fold(0.8, True, ATC=0.8), seen_by_fold(0.6, False, ATC=0.6)],  # as many saw one as saw none
            ((0.7, 0.6, 0.8), False, {"ATC": 0.7}, error_under(0.7)),
        ),
        ([seen_by_fold(0.9, True, ATC=0.8), seen_by_fold(None, False)], (None, False, {}, None)),
        ([seen_by_fold(0.9, True, ATC=0.8), None], (None, False, {}, None)),  # a run of earlier versions
    ],
)
def test_folds_see_the_mean_of_their_shifts_if_all_have_looked(monkeypatch, folds, shift):
    run = SimpleNamespace(weighted_models=[(told, 1 / len(folds)) for told in folds])
    monkeypatch.setattr(Expected, "read", lambda told: told)
    monkeypatch.setattr(without_labels, "fold_gain", lambda run, labels: 0.02)
    seen = expected_score._of_folds(run, np.zeros(1, int), seen_by_fold(None, False))
    assert (seen.folds, seen.fold_gain) == (len(folds), 0.02)
    auc, shifted, estimates, error = shift
    assert seen.auc == (auc and pytest.approx(auc))
    assert (seen.shifted, seen.estimates) == (shifted, {name: pytest.approx(of) for name, of in estimates.items()})
    assert str(seen).endswith("; images differ") == shifted
    assert seen.error == (error and pytest.approx(error))


@pytest.mark.parametrize(
    ("metric", "sign", "error"),
    [("accuracy", 1, expected_score.GAIN_ERROR), ("log_loss", -1, expected_score.LOSS_GAIN_ERROR)],
)
def test_the_gain_of_a_mean_of_folds_is_added_and_doubted(monkeypatch, metric, sign, error):
    for of in ("among_runs", "among_epochs"):
        monkeypatch.setattr(selection, of, lambda run, given: (0.0, 1))
    monkeypatch.setattr(selection, "of_stratification", lambda run, labels: 0.0)
    monkeypatch.setattr(expected_score, "_gaps", lambda run: [])
    holdout, part = Score(0.5, 0.48, 0.52, 2500, metric), (0.0, 0.0, 0.0, 5000)
    one, mean = (
        expected_score._adjusted_by_other_runs(
            None, holdout, np.zeros(1, int), Expected(metric, part, part, True, folds=5, fold_gain=gain)
        )
        for gain in (0.0, 0.1)
    )
    assert (one.private[0], mean.private[0]) == (pytest.approx(0.5), pytest.approx(0.5 + sign * 0.1))
    spread = np.hypot(width(one), 2 * 1.96 * error * 0.1)
    assert width(mean) == pytest.approx(spread, rel=0.05)


def test_images_that_a_run_was_trained_on_show_no_shift(finished, monkeypatch):
    """With pseudo-labels it is surer of the images to predict than of those held out, rightly or not."""
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(finished))
    run = Run.find("first")
    taught = replace(run, recipe=run.recipe.model_copy(update={"pseudo": SimpleNamespace(run="first")}))
    monkeypatch.setattr(expected_score, "_adjusted_by_other_runs", lambda run, holdout, labels, seen: seen)
    expected = expected_score.expect(taught, run.result.holdout, np.zeros(len(run.split.holdout), dtype=np.int64))
    assert (expected.auc, expected.estimates, expected.shifted) == (None, {}, False)


def test_what_has_related_images_in_training_does_not_count_for_what_is_expected(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(shutil.copytree(finished, tmp_path / "home")))
    run = Run.find("first")
    labels = np.zeros(len(run.split.holdout), dtype=np.int64)
    usable = np.arange(len(labels)) % 2 == 0
    start = Score(0.5, 0.4, 0.6, int(usable.sum()))
    asked = []
    of = unlabelled.domain
    monkeypatch.setattr(unlabelled, "domain", lambda held, *rest: asked.append(len(held)) or of(held, *rest))
    monkeypatch.setattr(selection, "among_runs", lambda run, labels: (0.0, 1))
    monkeypatch.setattr(selection, "of_stratification", lambda run, labels: 0.0)
    expected = expected_score.expect(run, start, labels, usable=usable)
    assert asked == [usable.sum()]
    assert expected.private[0] == pytest.approx(0.5)
    assert "without related ones in training count: 50.00%" in "\n".join(expected.details)
    expected.store(run)
    assert Expected.read(run) == expected
    assert expected_score._correction_of("first") == pytest.approx(0.5 - run.result.holdout.value)
    told = expected_score.updated(run)
    assert told.private == expected.private


def test_what_is_expected_of_a_run_starts_from_the_images_without_related_ones(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(shutil.copytree(finished, tmp_path / "home")))
    run = Run.find("first")
    (run.folder / "leaderboard.json").unlink()
    labels, asked = true_labels(run), []
    leaked = np.arange(len(labels)) % 3 == 0
    monkeypatch.setattr(expected_score, "expect", lambda *given: asked.append((given[1].count, given[4].tolist())))
    evaluate.conclude(
        run, SimpleNamespace(counted=1, limit=2), {"holdout": (run.split.holdout, labels)}, None, leaked=leaked
    )
    assert asked == [((~leaked).sum(), (~leaked).tolist())]


def test_few_images_tell_nothing():
    found = unlabelled.domain(np.zeros((5, 2)), np.ones((500, 2)))
    assert not found.shifted
    assert (found.auc.low, found.auc.high) == (0.0, 1.0)


def test_confidence_tells_a_harder_test_of_a_calibrated_classifier():
    (held, labels), (test, answers) = classifier(3000, 2.5, 1), classifier(3000, 1.2, 2)
    right, truth = held.argmax(1) == labels, (test.argmax(1) == answers).mean()
    assert right.mean() - truth > 0.1
    found = unlabelled.estimates(held, right, test, np.ones(len(held)))
    assert found["DoC"] == pytest.approx(truth, abs=0.03)
    assert abs(found["ATC"] - truth) < right.mean() - truth
    assert found["importance weights"] == right.mean()
    assert unlabelled.agreement(held, held) == 1.0


@pytest.mark.parametrize(("public", "private"), [(100, 900), (1000, 1000)])
def test_the_expected_scores_hold_in_95_of_100_leaderboards(public, private):
    random, held = np.random.default_rng(0), np.zeros((400, 2), dtype=bool)
    for place in range(len(held)):
        accuracy = random.uniform(0.8, 0.99)
        right = (random.random(200) < accuracy).astype(np.int64)
        score = METRICS["accuracy"](right, np.ones(200, dtype=np.int64), groups=None)
        parts = leaderboard.parts_of(score, 0.0, NONE, (public, private), [])
        for column, (_, low, high, images) in enumerate(parts):
            held[place, column] = low <= random.binomial(images, accuracy) / images <= high
    assert (held.mean(0) >= 0.92).all(), held.mean(0)
    assert (held.mean(0) <= 0.99).all()


@pytest.mark.parametrize(
    ("held_out", "to_predict", "accuracy"),
    [(1000, 200, 0.99), (143, 359, 0.993), (5000, 1000, 0.995), (2000, 100, 0.97)],
)
def test_few_images_on_a_leaderboard_can_all_be_right(held_out, to_predict, accuracy):
    random, sizes, held = np.random.default_rng(0), (round(0.3 * to_predict), round(0.7 * to_predict)), []
    expected = {}
    for _ in range(1000):
        hits = random.binomial(held_out, accuracy)
        if hits not in expected:
            score = Score(hits / held_out, *intervals.proportion(hits, held_out), held_out)
            expected[hits] = leaderboard.parts_of(score, 0.0, NONE, sizes, [])
        drawn = [random.binomial(images, accuracy) / images for images in sizes]
        held.append([low <= part <= high for part, (_, low, high, _) in zip(drawn, expected[hits], strict=True)])
    assert (np.mean(held, axis=0) >= 0.94).all(), np.mean(held, axis=0)


def test_of_sixty_images_the_interval_ends_at_whole_ones():
    score = Score(0.99, *intervals.proportion(990, 1000), 1000)
    (_, low, high, _), _ = leaderboard.parts_of(score, 0.0, NONE, (60, 140), [])
    assert (low, high) == (57 / 60, 1.0)


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
@pytest.mark.parametrize("gaps", [[], [-0.5]])
def test_a_nearly_flawless_loss_has_an_end_in_reach_and_a_width(metric, gaps):
    labels = np.arange(100) % 2
    score = METRICS[metric](np.where(np.eye(2)[labels] > 0, 0.999, 0.001), labels, groups=None)
    for centre, low, high, _ in leaderboard.parts_of(score, 0.0, NONE, (100, 300), gaps):
        assert 0 <= low <= centre < high < 1
    one_class = METRICS[metric](np.eye(2)[[0] * 50], np.zeros(50, dtype=np.int64), groups=None)
    assert np.isfinite(leaderboard.parts_of(one_class, 0.0, NONE, (3, 300), gaps)).all()


def test_a_wide_doubt_is_as_wide_for_a_high_score():
    score = Score(0.99, *intervals.proportion(990, 1000), 1000)
    estimates = (error_under(0.99), {"ATC": 0.99})
    _, low, high, _ = leaderboard.parts_of(score, 0.0, estimates, (300, 700), [])[1]
    assert low < 0.6
    assert high == 1.0


def test_what_was_taken_off_for_a_choice_is_not_taken_off_again_with_a_gap(home, monkeypatch):
    row = {"competition": "c", "metric": "accuracy", "public": 0.9, "holdout": 0.95}
    rows = [row | {"run": name, "csv_sha256": sha} for name, sha in (("one", "a"), ("again", "a"), ("two", "b"))]
    monkeypatch.setattr(query, "table", lambda: pd.DataFrame(rows))
    monkeypatch.setattr(expected_score, "_correction_of", lambda name: -0.02 if name == "again" else 0.0)
    competition = SimpleNamespace(metric=SimpleNamespace(name="accuracy"))
    run = SimpleNamespace(competition_name="c", competition=competition, name="three")
    assert expected_score._gaps(run) == pytest.approx([-0.03, -0.05])  # one CSV counts once


def test_the_public_score_of_a_run_that_cannot_be_read_is_no_end_of_the_next_run(home):
    (home / "runs" / "old").mkdir(parents=True)
    (home / "runs" / "old" / "run.json").write_text('{"recipe": "tiny", "competition": "digits"}')
    assert expected_score._correction_of("old") == 0.0


def test_a_public_score_that_was_seen_moves_the_next_and_narrows_it():
    right = np.arange(500) % 10 > 0
    score = METRICS["accuracy"](right.astype(np.int64), np.ones(500, dtype=np.int64), groups=None)
    before = leaderboard.parts_of(score, 0.0, NONE, (500, 5000), [])
    after = leaderboard.parts_of(score, 0.0, NONE, (500, 5000), [-0.04])
    assert before[0][0] == pytest.approx(0.9)
    assert 0.86 < after[0][0] < 0.88  # most of the way
    assert after[0][0] < after[1][0] < 0.9  # the private images are others
    assert after[0][2] - after[0][1] < 0.8 * (before[0][2] - before[0][1])


def test_choosing_flatters_and_estimates_under_shift_widen():
    score = METRICS["accuracy"](np.r_[np.ones(180, int), np.zeros(20, int)], np.ones(200, dtype=np.int64), groups=None)
    plain, chosen = (leaderboard.parts_of(score, by, NONE, (300, 700), [])[1] for by in (0.0, -0.01))
    assert chosen[0] == pytest.approx(plain[0] - 0.01)
    shifted = leaderboard.parts_of(score, 0.0, (error_under(0.8), {"ATC": 0.7, "DoC": 0.8}), (300, 700), [])[1]
    assert shifted[0] == pytest.approx(0.75)
    assert shifted[2] - shifted[1] > plain[2] - plain[1]
    assert error_under(0.5) == 0 < error_under(0.7) < error_under(0.99) <= 0.3
    corrected = leaderboard.parts_of(score, -0.01, (error_under(0.8), {"ATC": 0.7, "DoC": 0.8}), (300, 700), [])[1]
    assert corrected[0] == pytest.approx(0.74)  # choosing flatters what the estimates start from too
    loss = METRICS["log_loss"](np.full((50, 2), 0.5), np.zeros(50, dtype=np.int64), groups=None)
    assert leaderboard.parts_of(loss, 0.0, NONE, (30, 70), [])[0][0] == pytest.approx(np.log(2))


def test_it_is_told_where_the_run_ends_and_kept(finished):
    said = json.loads((finished / "runs" / "first" / "leaderboard.json").read_text())
    _, low, high, images = said["public"]
    assert images + said["private"][3] == 359
    assert low < high <= 1
    assert set(said["estimates"]) == {"ATC", "DoC", "importance weights"}
    assert not said["share_is_stated"]
    expected = expected_score.Expected(**said)
    assert "no shift is seen" in "\n".join(expected.details)
    assert "public" in str(expected)
    row = (finished / "submissions" / "ledger.csv").read_text().splitlines()
    assert dict(zip(row[0].split(","), row[1].split(","), strict=False))["public_low"] == str(round(low, 6))


def test_the_summary_of_everything_at_once_has_twelve_lines(finished, tmp_path, monkeypatch, capsys):
    """A soup with a test part and known answers, related images, wrong labels, a shift and a warning."""
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(shutil.copytree(finished, tmp_path / "home")))
    run = Run.find("first")
    result, expected = run.result, Expected.read(run)
    replace(expected, shifted=True, optimism=0.1).store(run)
    WrongLabels(0.1, 0.05, 0.2, []).store(run)
    RegroupedImages(1234, 90, 143, 0.9, "numbered sequences").store(run)
    (run.folder / "report").mkdir()
    (run.folder / "report" / "report.html").touch()
    tables.summary(run, replace(result, test=result.holdout), "warning: first is far worse than its worst member")
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    scores, others = (
        ["holdout", "test", "predict", "expected"],
        ["labels", "related", "trained", "submission", "report"],
    )
    assert [line.split()[0] for line in lines[1:-1]] == ["parameters", *scores, *others]
    assert len(lines) == 12
    assert max(map(len, (line for line in lines if str(tmp_path) not in line))) <= 140


def test_of_a_few_images_held_out_nothing_is_expected(home):
    words = ["tiny", "--threads", "1", "--no-report", "--set", "train.epochs=1", "--set", "split.holdout=2"]
    assert main([*words, "--set", "split.subset=60", "--name", "few"]) == 0
    assert Expected.read(Run.find("few")) is None


@pytest.mark.parametrize(
    ("scores", "flatters", "looks"),
    [
        ([0.80, 0.90, 0.96, 0.92, 0.91], 0.05, 5),  # beside the best 0.90 and 0.92
        ([0.80, 0.90, 0.92], 0.02, 3),  # the last is the best
        ([0.80, np.nan, 0.90, np.nan, 0.88], 0.06, 3),  # not every epoch was looked at
        ([0.90], 0.0, 1),
    ],
)
def test_choosing_an_epoch_flatters_by_what_those_beside_it_read_less(tmp_path, scores, flatters, looks):
    (tmp_path / "history.csv").touch()
    history = pd.DataFrame({"holdout_accuracy": scores, "holdout_score": scores})
    stopping = load_recipe("tiny", ["early_stopping.metric=accuracy"]).early_stopping
    recipe = SimpleNamespace(early_stopping=stopping)
    run = SimpleNamespace(recipe=recipe, is_ensemble=False, folder=tmp_path, history=history)
    score = METRICS["accuracy"](np.ones(50, int), np.ones(50, int), groups=None)
    assert selection.among_epochs(run, score) == (pytest.approx(flatters), looks)
    recipe.early_stopping = None
    assert selection.among_epochs(run, score) == (0.0, 1)


def test_the_epoch_that_flatters_is_the_one_whose_weights_ship(tmp_path):
    """The one of the lowest loss, whose score is not the best."""
    (tmp_path / "history.csv").touch()
    history = pd.DataFrame({"holdout_loss": [0.9, 0.3, 0.5, 0.6], "holdout_score": [0.70, 0.90, 0.86, 0.95]})
    stopping = load_recipe("tiny", ["early_stopping.metric=loss"]).early_stopping
    recipe = SimpleNamespace(early_stopping=stopping)
    run = SimpleNamespace(recipe=recipe, is_ensemble=False, folder=tmp_path, history=history)
    score = METRICS["accuracy"](np.ones(50, int), np.ones(50, int), groups=None)
    assert selection.among_epochs(run, score) == (pytest.approx(0.12), 4)
    recipe.early_stopping = load_recipe("tiny", ["early_stopping={metric: loss, margin: 0.7}"]).early_stopping
    assert selection.among_epochs(run, score) == (0.0, 4)  # the first, since none is better by the margin


def test_what_neighbouring_epochs_read_less_is_what_the_best_one_flatters_by():
    """Twenty epochs of equal accuracy, evaluated on the same 200 images; the best one is chosen."""
    random, flattery, told = np.random.default_rng(0), [], []
    for _ in range(300):
        hard = random.random(200) < 0.3  # answered by chance, in every epoch anew
        scores = np.where(hard, random.random((20, 200)) < 0.5, True).mean(1)
        best = int(scores.argmax())
        flattery.append(scores[best] - (1 - hard.mean() * 0.5))
        told.append(scores[best] - np.mean([scores[k] for k in (best - 1, best + 1) if 0 <= k < 20]))
    assert np.mean(told) == pytest.approx(np.mean(flattery), abs=0.003)
    assert np.mean(flattery) > 0.02


def test_the_best_of_equal_runs_flatters_by_what_the_others_score_less():
    """Ten classifiers that are right with a probability of 0.8 on 200 images."""
    random, accuracy, labels, told, flattery = np.random.default_rng(0), load("accuracy"), np.ones(200, int), [], []
    for _ in range(40):
        runs = sorted((random.random((10, 200)) < 0.8).astype(np.int64), key=lambda right: -right.mean())
        told.append(selection.of_the_best(runs, labels, accuracy, groups=None))
        flattery.append(runs[0].mean() - 0.8)
        assert selection.of_the_best(runs[::-1], labels, accuracy, groups=None) == 0  # not the best
    assert np.mean(told) == pytest.approx(np.mean(flattery), rel=0.15)
    apart = [np.ones(200, int), *(np.arange(200) % 2 for _ in range(9))]
    assert selection.of_the_best(apart, labels, accuracy, groups=None) < 0.01  # nobody chose among equals


def test_an_expectation_of_then_is_renewed_by_what_came_since(finished, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(finished))
    run = Run.find("first")
    then = Expected.read(run)
    assert then is not None
    monkeypatch.setattr(expected_score, "_gaps", lambda run: [])
    monkeypatch.setattr(selection, "among_runs", lambda run, labels: (then.optimism, then.compared))
    assert expected_score.updated(run) == then
    monkeypatch.setattr(expected_score, "_gaps", lambda run: [-0.05])
    now = expected_score.updated(run)
    assert now.learned_from == 1
    assert now.public[0] < then.public[0]


def true_labels(run: Run) -> np.ndarray:
    pack = run.competition.load().train
    label_of = dict(zip(pack.ids, pack.labels, strict=True))
    return np.array([label_of[id] for id in run.split.holdout])


def test_the_frequencies_of_the_classes_are_as_certain_as_all_labelled_images_make_them(finished, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(finished))
    run, asked = Run.find("first"), []
    monkeypatch.setattr(
        stratification, "population_weights", lambda labels, images: asked.append(images) or np.ones(len(labels))
    )
    assert selection.of_stratification(run, true_labels(run)) == 0
    assert asked == [pytest.approx(len(run.split.train) + len(run.split.holdout))]


def test_the_printed_interval_reaches_as_far_as_the_bias(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(shutil.copytree(finished, tmp_path / "home")))
    run = Run.find("first")
    labels, ends = true_labels(run), []
    for bias in (0.0, 0.05):
        monkeypatch.setattr(stratification, "bias", lambda *judged, bias=bias, **of: bias)
        ends.append(evaluate.evaluate(run, "holdout", run.split.holdout, labels))
    plain, told = ends
    assert (told.value, told.high) == (plain.value, plain.high)
    assert told.low == pytest.approx(plain.low - 0.05)
    assert stratification.by_sampling(told) == plain
    assert Score.read(json.loads(json.dumps(asdict(told)))) == told


def test_a_holdout_is_scored_by_nothing_that_was_fitted_to_it(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(shutil.copytree(finished, tmp_path / "home")))
    run = Run.find("first")
    labels, raw = true_labels(run), run.probs("holdout")
    run.temperature.write_text("0.1\n")
    fair = temper_cross_fitted(raw, labels, groups=run.groups(run.split.holdout))
    assert (fitted.cross_fitted(run, labels)[0] == fair).all()
    monkeypatch.setattr(fitted, "decision", lambda run: lambda probs: labels)  # fitted to every image
    score = evaluate.evaluate(run, "holdout", run.split.holdout, labels)
    assert score.value == (fair.argmax(1) == labels).mean() < 1


def test_a_bias_that_lengthens_the_printed_interval_is_not_counted_again(monkeypatch):
    for of, bias in (("among_runs", 0.01), ("among_epochs", 0.02)):
        monkeypatch.setattr(selection, of, lambda run, given, bias=bias: (bias, 3))
    monkeypatch.setattr(selection, "of_stratification", lambda run, labels: 0.05)
    monkeypatch.setattr(expected_score, "_gaps", lambda run: [])
    part = (0.0, 0.0, 0.0, 500)
    plain = Score(0.8, 0.72, 0.86, 120)
    told = stratification.widened(plain, 0.05)
    assert told.low == pytest.approx(0.67)
    ranges = [
        expected_score._adjusted_by_other_runs(None, score, np.zeros(1, int), Expected("accuracy", part, part, True))
        for score in (plain, told)
    ]
    assert ranges[0] == ranges[1]
    assert ranges[0].private[0] == pytest.approx(0.8 - 0.01 - 0.02 - 0.05)  # every bias is subtracted


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("valid", "folds", "count"), [(None, None, 7), ("came with the data", None, None), ("", 5, 7)])
def test_what_was_divided_class_by_class_is_all_that_is_labelled(monkeypatch, valid, folds, count, stored):
    """A member that was deleted is left out: the others, and the ensemble itself, know most of the images."""
    one, other = (SimpleNamespace(train=train, holdout=list("cd"), test=["e"]) for train in (["a", "b"], ["f", "g"]))
    run = SimpleNamespace(
        competition=SimpleNamespace(load=lambda: pytest.fail("loaded") if stored else SimpleNamespace(valid=valid)),
        recipe=SimpleNamespace(split=SimpleNamespace(folds=folds)),
        split=SimpleNamespace(train=[], holdout=list("cd"), test=[], provided=count is None if stored else None),
        metadata=SimpleNamespace(members=["one", "gone", "other"]),
    )
    monkeypatch.setattr(Run, "exists", lambda name: name != "gone")
    monkeypatch.setattr(Run, "find", lambda name: SimpleNamespace(split={"one": one, "other": other}[name]))
    assert division.labelled(run) == count


def test_the_summary_says_what_was_subtracted_if_it_matters():
    part = (0.9, 0.8, 0.95, 100)
    much, little = (str(Expected("accuracy", part, part, True, by_stratification=bias)) for bias in (0.03, 0.005))
    assert much.endswith("(100 images), 3.00 points of bias subtracted")
    assert "bias" not in little


@pytest.mark.parametrize("metric", ["log_loss", "macro_f1", "quadratic_kappa"])
def test_a_shift_widens_the_range_of_every_metric(finished, monkeypatch, metric):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(finished))
    run = Run.find("first")
    labels = true_labels(run)
    seen_with = run.competition.model_copy(update={"metric": load(metric)})
    run = replace(run, competition=seen_with)
    score = METRICS[metric](run.probs("holdout").astype(np.float64), labels, groups=None)
    apart = np.random.default_rng(0).normal(size=(2, len(labels), 3))
    plain, shifted = (
        expected_score.expect(run, score, labels, unlabelled.DomainFeatures(apart[0], apart[1] + by)) for by in (0, 2)
    )
    assert (plain.shifted, shifted.shifted) == (False, True)
    assert set(shifted.estimates) == {"importance weights"}
    assert width(shifted) > 1.2 * width(plain)  # that of kappa by 1.4 on one processor


def width(expected: Expected) -> float:
    """The width of the interval of the private score."""
    _, low, high, _ = expected.private
    return high - low


def test_the_gain_of_a_mean_of_models_is_told_without_labels():
    """Five models that add their own noise to calibrated logits, about as much as tells the classes apart."""
    random = np.random.default_rng(5)
    truth = 2 * random.normal(size=(3000, 4))
    members = [truth + 1.5 * random.normal(size=truth.shape) for _ in range(5)]
    probs = [np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in members]
    labels = (truth + random.gumbel(size=truth.shape)).argmax(1)
    mean = np.mean(probs, axis=0)

    def accuracy(answers, true):
        return float((answers.argmax(1) == true).mean())

    gain = accuracy(mean, labels) - np.mean([accuracy(each, labels) for each in probs])
    assert gain > 0.05
    told = unlabelled.gain_of_mean(probs, mean, mean, accuracy, several=False)
    assert told == pytest.approx(gain, rel=0.3)
    assert unlabelled.gain_of_mean([mean] * 3, mean, mean, accuracy, several=False) == 0

    models = [(SimpleNamespace(probs=lambda part, own=own: own), 0.2) for own in probs]
    competition = SimpleNamespace(metric=load("log_loss"))
    run = SimpleNamespace(competition=competition, weighted_models=models, probs=lambda part: mean)
    assert without_labels.fold_gain(run, labels) > 0.1  # of a loss too, more is better
