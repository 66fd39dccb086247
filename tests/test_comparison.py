import json
import re
import shutil

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from featherweight import comparison, job, run_folder
from featherweight.comparison import Answers, mcnemar, over_seeds, paired
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.run_folder import Task


def answers(name, right, classes=4, seed=0):
    """A run that is right on a given part of 400 images, the same ones first."""
    labels = np.arange(400) % classes
    order = np.random.default_rng(seed).permutation(400)
    wrong = order[round(400 * right) :]
    given = labels.copy()
    given[wrong] = (given[wrong] + 1) % classes
    return Answers(name, np.eye(classes, dtype=np.float32)[given] * 0.9 + 0.025, labels)


def test_mcnemar_is_the_sign_test_of_the_images_only_one_gets():
    one = np.array([True] * 60 + [True] * 12 + [False] * 3 + [False] * 25)
    other = np.array([True] * 60 + [False] * 12 + [True] * 3 + [False] * 25)
    assert mcnemar(one, other) == pytest.approx(binomtest(12, 15).pvalue)
    assert mcnemar(one, one) == 1.0


@pytest.mark.parametrize("metric", ["accuracy", "f1", "loss"])
def test_a_clear_difference_is_told_and_the_right_way_round(metric):
    good, poor = answers("good", 0.9), answers("poor", 0.7)
    for one, other in ((good, poor), (poor, good)):
        verdict = paired(one, other, metric)
        assert verdict.told
        assert str(verdict).startswith("good is better than poor on these images: by ")
        assert verdict.low < verdict.gain < verdict.high
    if metric == "accuracy":
        assert paired(good, poor, metric).gain == pytest.approx(0.2)
    if metric == "f1":
        f1 = [f1_score(x.labels, x.probs.argmax(1), average="macro") for x in (good, poor)]
        assert paired(good, poor, metric).gain == pytest.approx(f1[0] - f1[1])


def test_mcnemar_stands_beside_a_verdict_on_the_loss_and_does_not_decide_it():
    """The same classes, one of them given with more certainty: a better loss, and no better accuracy."""
    sure = answers("sure", 0.9)
    unsure = Answers("unsure", (sure.probs * 0.6 + 0.1).astype(np.float32), sure.labels)
    verdict = paired(sure, unsure, "loss")
    assert (verdict.mcnemar, verdict.told) == (1.0, True)
    assert str(verdict).startswith("sure is better than unsure on these images: by ")
    assert str(verdict).endswith("paired bootstrap p = 0.001); their accuracies can't be told apart (McNemar p = 1)")
    assert not paired(sure, unsure, "accuracy").told
    alike = paired(sure, Answers("alike", sure.probs, sure.labels), "f1")
    assert (alike.p, alike.gain, alike.told) == (1.0, 0.0, False)
    assert "their accuracies differ (McNemar p = " in str(paired(sure, answers("poor", 0.7), "f1"))


def test_a_bootstrap_of_differences_that_are_nothing_seldom_tells():
    """Pairs of runs that are as good as one another."""
    told = sum(paired(answers("a", 0.8, seed=n), answers("b", 0.8, seed=n + 50), "f1").p < 0.05 for n in range(6))
    assert told <= 1


def test_a_small_difference_cannot_be_told():
    verdict = paired(answers("a", 0.9), answers("b", 0.905, seed=1), "accuracy")
    assert not verdict.told
    assert str(verdict).startswith("it can't be told which of a and b is better: 0.50 points of accuracy apart")


def test_pairing_tells_what_intervals_side_by_side_do_not():
    """Twelve images better out of 400, none worse: the intervals overlap, the pairs do not."""
    better, worse = answers("better", 0.90), answers("worse", 0.87)
    assert paired(better, worse, "accuracy").told
    assert binomtest(348, 400).proportion_ci().high > 0.90


def test_recipes_are_compared_over_their_seeds():
    assert over_seeds("accuracy", "a", [0.90, 0.91, 0.92], "b", [0.80, 0.81, 0.82]).startswith(
        "the recipe a is better than b: accuracy 91.00 ± 1.00 over 3 seeds against 81.00 ± 1.00 over 3 seeds, p ="
    )
    assert over_seeds("loss", "a", [0.90, 0.91], "b", [0.80, 0.81]).startswith("the recipe b is better than a")
    assert over_seeds("f1", "a", [0.9, 0.8], "b", [0.85, 0.86]).startswith("it can't be told which of the recipes")


def test_the_more_comparisons_the_more_it_takes_to_tell():
    better, worse = answers("better", 0.90), answers("worse", 0.885)
    alone = paired(better, worse, "accuracy")
    assert alone.mcnemar == pytest.approx(2 * 0.5**6)
    assert alone.told
    assert not paired(better, worse, "accuracy", among=2).told


@pytest.fixture
def finished(home):
    """Two real runs of an epoch, and a copy that says that it is of another seed."""
    for seed in (0, 1):
        recipe = load_recipe("tiny", [f"seed={seed}", "train.epochs=1", "predict.views=[]", "split.holdout=0.3"])
        run = run_folder.start(Task("tiny", recipe, "digits", load_competition("digits"), ["x"], "cpu", 1), f"s{seed}")
        job.run(run)
    return home / "runs"


def test_finished_runs_are_compared(finished, tmp_path):
    rows, words = comparison.compare(["s0", "s1"], tmp_path / "compare.png")
    assert rows["holdout_accuracy"].is_monotonic_decreasing
    assert set(rows["run"]) == {"s0", "s1"}
    assert len(words) == 1  # two seeds of one recipe: no recipes to tell apart
    assert re.search(r"McNemar p = [\d.e-]+\)$", words[0])
    assert (tmp_path / "compare.png").stat().st_size > 10_000

    with pytest.raises(UserError, match="at least two runs"):
        comparison.compare(["s0", "s0"], tmp_path / "compare.png")
    shutil.copytree(finished / "s1", finished / "other")
    split = json.loads((finished / "other" / "split.json").read_text())
    (finished / "other" / "split.json").write_text(json.dumps({**split, "holdout": split["holdout"][1:]}))
    with pytest.raises(UserError, match=r"hold out different images; give both the same split section"):
        comparison.compare(["s0", "other"], tmp_path / "compare.png")
    (finished / "s1" / "holdout_probs.npy").unlink()
    with pytest.raises(UserError, match=r"s1 has not come to its holdout yet: \./run.sh resume s1"):
        comparison.compare(["s0", "s1"], tmp_path / "compare.png")


def test_recipes_of_one_name_and_other_settings_are_told_apart(finished):
    runs = [run_folder.find("s0"), run_folder.find("s1")]
    assert comparison._labels(runs) == ["tiny", "tiny"]
    changed = load_recipe("tiny", ["seed=1", "optimizer.lr=0.3"])
    runs.append(run_folder.start(Task("tiny", changed, "digits", load_competition("digits"), ["x"], "cpu", 1), "hot"))
    assert comparison._labels(runs) == ["tiny as in s0", "tiny as in s0", "tiny as in hot"]
