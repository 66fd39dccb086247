import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_ind
from sklearn.metrics import f1_score

from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.evaluation.metrics import METRICS
from featherweight.runs import comparison, pipeline
from featherweight.runs.paired_tests import HoldoutPredictions, Paired, against_each, mcnemar, over_seeds
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run
from featherweight.schema import OneOf


def metric_of(name):
    return OneOf(METRICS).validate(name)


def answers(name, right, classes=4, seed=0):
    """Make a run that is correct on the given fraction of 400 images, always the first ones."""
    labels = np.arange(400) % classes
    order = np.random.default_rng(seed).permutation(400)
    wrong = order[round(400 * right) :]
    given = labels.copy()
    given[wrong] = (given[wrong] + 1) % classes
    return HoldoutPredictions(name, np.eye(classes, dtype=np.float32)[given] * 0.9 + 0.025, labels)


def paired(one, other, metric, among=1):
    return against_each(one, [other], metric, among)[0]


def test_mcnemar_is_the_sign_test_of_the_images_only_one_gets():
    one = np.array([True] * 60 + [True] * 12 + [False] * 3 + [False] * 25)
    other = np.array([True] * 60 + [False] * 12 + [True] * 3 + [False] * 25)
    assert mcnemar(one, other, groups=None) == pytest.approx(binomtest(12, 15).pvalue)
    assert mcnemar(one, one, groups=None) == 1.0


@pytest.mark.parametrize(
    "metric", sorted(name for name, metric in METRICS.items() if "one" in metric.targets and name != "top_k")
)
def test_a_clear_difference_is_told_and_the_right_way_round(metric):
    good, poor = answers("good", 0.9), answers("poor", 0.7)
    for one, other in ((good, poor), (poor, good)):
        verdict = paired(one, other, metric_of(metric))
        assert verdict.significant
        assert str(verdict).startswith("good is better than poor on these images: by ")
        assert verdict.low < verdict.gain < verdict.high
    gain = paired(good, poor, metric_of(metric)).gain
    if metric == "accuracy":
        assert gain == pytest.approx(0.2)
    if metric == "macro_f1":
        f1 = [f1_score(x.labels, x.probs.argmax(1), average="macro") for x in (good, poor)]
        assert gain == pytest.approx(f1[0] - f1[1])


def test_mcnemar_stands_beside_a_verdict_on_the_loss_and_does_not_decide_it():
    """Equal classes, one predicted with more confidence: a better loss, and equal accuracy."""
    sure = answers("sure", 0.9)
    unsure = HoldoutPredictions("unsure", (sure.probs * 0.6 + 0.1).astype(np.float32), sure.labels)
    verdict = paired(sure, unsure, metric_of("log_loss"))
    assert (verdict.mcnemar, verdict.significant) == (1.0, True)
    assert str(verdict).startswith("sure is better than unsure on these images: by ")
    accuracies = "their accuracies do not differ significantly (McNemar p = 1)"
    assert str(verdict).endswith(f"paired bootstrap p = 0.002); {accuracies}")
    assert not paired(sure, unsure, metric_of("accuracy")).significant
    alike = paired(sure, HoldoutPredictions("alike", sure.probs, sure.labels), metric_of("macro_f1"))
    assert (alike.p, alike.gain, alike.significant) == (1.0, 0.0, False)
    assert "their accuracies differ (McNemar p = " in str(paired(sure, answers("poor", 0.7), metric_of("macro_f1")))


def test_runs_of_one_seed_are_no_several_seeds():
    rows = pd.DataFrame(
        [
            {"recipe": recipe, "seed": 0, "started": f"2026-01-0{day}", "accuracy": accuracy}
            for recipe, accuracy in (("one", 0.9), ("other", 0.8))
            for day in (1, 2, 3)
        ]
    )
    assert "train several seeds of each" in comparison._recipes(rows, "accuracy")[0]
    assert "no significant difference" in over_seeds("accuracy", {"one": [0.9, 0.9], "other": [0.8, 0.8]})[0]


def test_mcnemar_judges_the_hits_of_top_k_and_not_the_first_answers():
    """The first predictions are equal; the second ones are correct in only one run."""
    labels = np.arange(300) % 3
    first, right, wrong = (np.eye(3)[(labels + step) % 3] for step in (1, 0, 2))
    one, other = (
        HoldoutPredictions(name, 0.6 * first + 0.3 * second, labels)
        for name, second in (("one", right), ("other", wrong))
    )
    top = OneOf(METRICS).validate({"name": "top_k", "k": 2})
    verdict = paired(one, other, top)
    assert verdict.significant
    assert verdict.gain == 1.0
    assert verdict.mcnemar < 1e-6
    assert paired(one, other, metric_of("accuracy")).mcnemar == 1.0


def test_frames_of_one_picture_tell_as_much_as_the_picture():
    """Five images with twenty frames each are correct in only one run: that counts as five, not as a hundred."""
    related = np.repeat(np.arange(40), 20)
    labels = np.zeros(800, dtype=np.int64)
    right = np.tile([0.9, 0.1], (800, 1))
    wrong = np.where((related < 5)[:, None], right[:, ::-1], right)
    one, other = (
        HoldoutPredictions(name, probs, labels, groups=related) for name, probs in (("one", right), ("other", wrong))
    )
    assert paired(one, other, metric_of("accuracy")).mcnemar == pytest.approx(2 * 0.5**5)
    assert not paired(one, other, metric_of("accuracy")).significant
    alone = [HoldoutPredictions(each.name, each.probs, labels) for each in (one, other)]
    assert paired(*alone, metric_of("accuracy")).significant
    widths = [paired(*each, metric_of("log_loss")) for each in ((one, other), alone)]
    assert (widths[0].high - widths[0].low) > 3 * (widths[1].high - widths[1].low)


@pytest.mark.parametrize(("groups", "significant"), [(1, False), (2, False), (5, False), (8, True), (None, True)])
def test_few_groups_tell_no_better_run_however_many_images_they_have(groups, significant):
    labels = np.arange(240) % 4
    related = None if groups is None else np.arange(240) % groups
    noise = np.random.default_rng(0).random((240, 1)).astype(np.float32)
    sure, unsure = (np.eye(4, dtype=np.float32)[labels] * part * (0.5 + noise / 4) + 0.1 for part in (1.0, 0.8))
    one, other = (
        HoldoutPredictions(str(number), each, labels, groups=related) for number, each in enumerate((sure, unsure))
    )
    found = paired(one, other, metric_of("log_loss"))
    assert found.significant == significant
    assert found.low < found.gain < found.high
    if groups is not None:
        assert found.p >= 0.5 ** (groups - 1)


def test_a_bootstrap_of_differences_that_are_nothing_seldom_tells():
    """Pairs of equally good runs."""
    told = sum(
        paired(answers("a", 0.8, seed=n), answers("b", 0.8, seed=n + 50), metric_of("macro_f1")).p < 0.05
        for n in range(6)
    )
    assert told <= 1


def test_a_small_difference_cannot_be_told():
    verdict = paired(answers("a", 0.9), answers("b", 0.905, seed=1), metric_of("accuracy"))
    assert not verdict.significant
    assert str(verdict).startswith("no significant difference between a and b: 0.50 points of accuracy (95")


def test_where_the_interval_and_mcnemars_test_differ_it_is_said_which_decides():
    few = Paired("a", "b", "accuracy", 0.3, 0.13, 0.6, 0.01, 0.0625)
    assert str(few).endswith("(95 % interval +13.00 to +60.00, McNemar p = 0.0625, which decides)")
    assert str(replace(few, low=-0.1)).endswith("McNemar p = 0.0625)")


def test_pairing_tells_what_intervals_side_by_side_do_not():
    """12 of 400 images better, none worse: the intervals overlap, but the paired test is significant."""
    better, worse = answers("better", 0.90), answers("worse", 0.87)
    assert paired(better, worse, metric_of("accuracy")).significant
    assert binomtest(348, 400).proportion_ci().high > 0.90


def test_recipes_are_compared_over_their_seeds():
    (told,) = over_seeds("accuracy", {"a": [0.90, 0.91, 0.92], "b": [0.80, 0.81, 0.82]})
    assert told.startswith(
        "the recipe a is better than b: accuracy 91.00 ± 1.00 over 3 seeds against 81.00 ± 1.00 over 3 seeds, p ="
    )
    (told,) = over_seeds("log_loss", {"a": [0.90, 0.91], "b": [0.80, 0.81]})
    assert told.startswith("the recipe b is better than a")
    (told,) = over_seeds("macro_f1", {"a": [0.9, 0.8], "b": [0.85, 0.86]})
    assert told.startswith("no significant difference between the recipes a and b: macro F1 85.00")


def test_several_pairs_of_recipes_are_corrected_together():
    scores = {"a": [0.905, 0.92, 0.915], "b": [0.88, 0.90, 0.885], "c": [0.89, 0.91, 0.90]}
    p = ttest_ind(scores["a"], scores["b"], equal_var=False).pvalue
    assert p < 0.05
    assert over_seeds("accuracy", {key: scores[key] for key in "ab"})[0].startswith("the recipe a is better than b")
    told = over_seeds("accuracy", scores)
    assert len(told) == 3
    assert told[0].startswith("no significant difference between the recipes a and b")
    assert told[0].endswith(f"p = {3 * p:.3g}")


def test_the_more_comparisons_the_more_it_takes_to_tell():
    better, worse = answers("better", 0.90), answers("worse", 0.885)
    alone = paired(better, worse, metric_of("accuracy"))
    assert alone.mcnemar == pytest.approx(2 * 0.5**6)
    assert alone.significant
    assert not paired(better, worse, metric_of("accuracy"), among=2).significant


def test_what_is_one_of_many_pairs_can_still_be_told():
    """The smallest p-value of a bootstrap must not exceed the corrected level of each pair."""
    assert paired(answers("good", 0.9), answers("poor", 0.6), metric_of("macro_f1"), among=190).significant


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Make a workspace with two real runs of one epoch, with two seeds, once."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        for seed in (0, 1):
            make(f"s{seed}", f"seed={seed}")
    return folder


@pytest.fixture
def finished(two, home):
    shutil.copytree(two, home, dirs_exist_ok=True)
    return home / "runs"


def test_finished_runs_are_compared(finished, tmp_path):
    rows, words = comparison.compare(["s0", "s1"], tmp_path / "compare.png")
    assert rows["accuracy"].is_monotonic_decreasing
    assert set(rows["run"]) == {"s0", "s1"}
    for metric in comparison.SHOWN:
        assert (rows[f"{metric}_low"] < rows[metric]).all()
        assert (rows[metric] < rows[f"{metric}_high"]).all()
    assert len(words) == 2  # two seeds of one recipe: no recipes to tell apart
    assert re.search(r"McNemar p = [\d.e-]+\)$", words[0])
    assert (tmp_path / "compare.png").stat().st_size > 10_000

    shutil.copytree(finished / "s1", finished / "other")
    split = json.loads((finished / "other" / "split.json").read_text())
    (finished / "other" / "split.json").write_text(json.dumps({**split, "holdout": split["holdout"][1:]}))
    with pytest.raises(UserError, match=r"hold out different images; give both the same split section"):
        comparison.compare(["s0", "other"], tmp_path / "compare.png")
    (finished / "s1" / "holdout_probs.npy").unlink()
    with pytest.raises(UserError, match=r"s1 has not predicted its holdout yet: \./run.sh resume s1"):
        comparison.compare(["s0", "s1"], tmp_path / "compare.png")


def test_runs_of_one_name_are_told_apart_by_their_folders(finished, tmp_path):
    other = tmp_path / "elsewhere" / "s0"
    shutil.copytree(finished / "s1", other)
    rows, words = comparison.compare(["s0", str(other)], tmp_path / "compare.png")
    named = {str(other), str(finished.resolve() / "s0")}
    assert set(rows["run"]) == set(rows["reported"]) == named
    assert all(name in words[0] for name in named)
    right = {run: (Run.find(run).probs("holdout").argmax(1)) for run in named}
    truth = comparison.true_classes(Run.find("s0"), Run.find("s0").split.holdout)
    for row in rows.to_dict("records"):
        assert row["accuracy"] == pytest.approx((right[row["run"]] == truth).mean())
    split = json.loads((other / "split.json").read_text())
    (other / "split.json").write_text(json.dumps({**split, "holdout": split["holdout"][::-1]}))
    with pytest.raises(UserError, match="hold out different images"):
        comparison.compare(["s0", str(other)], tmp_path / "compare.png")
    with pytest.raises(UserError, match="these are all the same run, s0"):
        comparison.compare(["s0", str(finished / "s0")], tmp_path / "compare.png")


def test_runs_are_chosen_by_name_or_by_a_ledger_filter(finished, tmp_path, capsys):
    make("hot", "optimizer.lr=0.3")
    make("gone", "optimizer.lr=0.4")
    shutil.rmtree(finished / "gone")
    assert comparison.chosen(["s0", "hot", "s0"], None, []) == ["s0", "hot"]
    assert comparison.chosen([], "digits", []) == ["s0", "s1", "hot"]
    assert "left out, since their folders are not in " in capsys.readouterr().out
    assert comparison.chosen([], None, ["seed=0"]) == ["s0", "hot"]
    assert comparison.chosen([], "digits", ["optimizer.lr<0.3"]) == ["s0", "s1"]
    with pytest.raises(UserError, match=r"at least two runs: \./run.sh compare RUN RUN"):
        comparison.chosen(["s0", "s0"], None, [])
    with pytest.raises(UserError, match="at least two runs, and 1 of the ledger is selected"):
        comparison.chosen([], None, ["optimizer.lr=0.3"])
    with pytest.raises(UserError, match="or --competition and --where to choose them; not both"):
        comparison.chosen(["s0"], "digits", [])

    picture = str(tmp_path / "compare.png")
    assert main.main(["compare", "--competition", "digits", "--where", "seed=0", "--out", picture]) == 0
    out = capsys.readouterr().out
    held = json.loads((finished / "hot" / "result.json").read_text())["holdout"]
    ends = (f"{held[end] * 100:.2f}" for end in ("value", "low", "high"))
    assert "{} [{}, {}]".format(*ends) in " ".join(out.split())
    assert "macro F1 %" in out
    assert "log loss" in out
    assert main.main(["compare"]) == 2


def test_recipes_of_one_name_and_other_settings_are_told_apart(finished):
    runs = [Run.find("s0"), Run.find("s1")]
    assert comparison._labels(runs) == ["tiny", "tiny"]
    changed = load_recipe("tiny", ["seed=1", "optimizer.lr=0.3"])
    runs.append(RunRequest("tiny", changed, "digits", load_competition("digits"), ["x"], "cpu", 1).start("hot"))
    assert comparison._labels(runs) == ["tiny as in s0", "tiny as in s0", "tiny as in hot"]


def make(name, *changes, competition=(), answered=None):
    """Make a run of one epoch; `answered` maps its true classes [N] to other probabilities [N, 10]."""
    recipe = load_recipe("tiny", ["train.epochs=1", "predict.views=[]", "split.holdout=0.3", *changes])
    task = RunRequest("tiny", recipe, "digits", load_competition("digits", list(competition)), ["x"], "cpu", 1)
    run = task.start(name)
    pipeline.execute(run)
    if answered is not None:
        ids = run.split.holdout
        np.save(run.folder / "holdout_probs.npy", answered(comparison.true_classes(run, ids)).astype(np.float32))
    return run


def test_runs_are_ranked_and_told_apart_by_the_competitions_own_metric(home, tmp_path):
    """One run has more errors, all of one class; the other has fewer, spread over many."""

    def near(true):
        return np.eye(10)[np.where(np.arange(len(true)) % 5 < 2, (true + np.where(true < 9, 1, -1)), true)]

    def far(true):
        return np.eye(10)[np.where(np.arange(len(true)) % 5 < 1, (true + 5) % 10, true)]

    for name, answered in (("near", near), ("far", far)):
        make(name, competition=["metric=quadratic_kappa"], answered=answered)
    rows, words = comparison.compare(["far", "near"], tmp_path / "compare.png")
    assert rows["run"].tolist() == ["near", "far"]
    assert rows["accuracy"].is_monotonic_increasing
    assert rows["macro_f1"].is_monotonic_increasing
    assert words[0].startswith("near is better than far on these images: by ")
    assert " points of quadratic kappa (95 % interval +" in words[0]


def test_curves_are_of_the_loss_f1_and_the_competitions_metric_for_train_and_holdout(tmp_path, monkeypatch):
    """A run of an older version, which stored less about its training images, is drawn as far as possible."""
    new, pictured = make_history(), []
    old = new.drop(columns=["train_f1", "train_score", "holdout_score"])
    monkeypatch.setattr(comparison.plotting, "save", lambda picture, path, dpi: pictured.append(picture))
    comparison.draw({"new": new, "old": old}, tmp_path / "curves.png", "balanced_accuracy")
    lines = {axes.get_title(): [line.get_linestyle() for line in axes.lines] for axes in pictured[0].axes}
    assert lines == {
        "loss": ["-", "--", "-", "--"],
        "accuracy": ["-", "--", "-", "--"],
        "macro F1": ["-", "--", "-"],
        "balanced accuracy": ["-", "--"],
    }
    assert pictured[0].axes[3].lines[1].get_ydata().tolist() == new["train_score"].tolist()


def make_history():
    columns = [f"{part}_{what}" for part in ("train", "holdout") for what in ("loss", "accuracy", "f1", "score")]
    return pd.DataFrame({"epoch": [1, 2], **{name: [number, number / 2] for number, name in enumerate(columns)}})


def test_a_run_that_calibrates_is_compared_at_its_temperature(home, tmp_path):
    competition = ["metric=log_loss", "submission.takes=probabilities"]
    warm = make("warm", "predict.calibrate=true", competition=competition)
    assert float(warm.temperature.read_text()) != pytest.approx(1, abs=0.02)
    raw = shutil.copytree(warm.folder, warm.folder.parent / "raw")
    (raw / "temperature.txt").unlink()
    rows, words = comparison.compare(["raw", "warm"], tmp_path / "compare.png")
    scored = json.loads((warm.folder / "result.json").read_text())["holdout"]
    assert rows["run"].tolist() == ["warm", "raw"]
    found = rows[["log_loss", "log_loss_low", "log_loss_high"]].iloc[0].tolist()
    assert found == pytest.approx([scored["value"], scored["low"], scored["high"]], abs=1e-5)
    assert rows["log_loss"].iloc[1] > rows["log_loss"].iloc[0]
    assert words[0].startswith("warm is better than raw on these images: by ")
    assert " nats of log loss (95 % interval +" in words[0]


def test_the_best_of_several_is_chosen_among_all_their_pairs(home, tmp_path):
    """Nine images better and one worse, p = 0.021: significant for one pair, not for the three pairs of three runs."""

    def right(first, last):
        return lambda true: np.eye(10)[
            np.where((np.arange(len(true)) >= first) & (np.arange(len(true)) < last), true, (true + 1) % 10)
        ]

    run = make("good")
    true = comparison.true_classes(run, run.split.holdout)
    for name, first, last in (("good", 1, 309), ("poor", 0, 300), ("worst", 0, 100)):
        folder = run.folder if name == "good" else shutil.copytree(run.folder, run.folder.with_name(name))
        np.save(folder / "holdout_probs.npy", right(first, last)(true).astype(np.float32))
    two = comparison.compare(["good", "poor"], tmp_path / "compare.png")[1]
    assert two[0].startswith("good is better than poor on these images: by ")
    three = comparison.compare(["good", "poor", "worst"], tmp_path / "compare.png")[1]
    assert three[0].startswith("no significant difference between good and poor: ")
    assert three[1].startswith("good is better than worst on these images: by ")
    assert 0.05 / 3 < binomtest(9, 10).pvalue < 0.05 / 2


def test_what_is_made_of_runs_has_no_curves_of_its_own_and_no_report(finished, tmp_path, monkeypatch, capsys):
    assert main.main(["ensemble", "s0", "s1", "--name", "both"]) == 0
    assert main.main(["soup", "s0", "s1", "--name", "mixed"]) == 0
    for name in ("both", "mixed"):  # the best of them is the ensemble
        assert Run.find(name).members == ["s0", "s1"]
    labels = comparison.holdout_predictions([Run.find("s0")])[0].labels
    np.save(finished / "both" / "holdout_probs.npy", np.eye(10, dtype=np.float32)[labels])
    drawn = []
    monkeypatch.setattr(comparison, "draw", lambda histories, path, metric: drawn.append(list(histories)))
    picture = tmp_path / "compare.png"
    capsys.readouterr()
    assert main.main(["compare", "s1", "both", "mixed", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert drawn == [["s1"]]
    assert out.endswith(f"wrote {picture}\nnext: ./run.sh report s0\n")
    assert main.main(["compare", "both", "mixed", "--out", str(picture)]) == 0
    assert "no curves: these are made of runs" in capsys.readouterr().out
    assert drawn == [["s1"]]

    assert main.main(["report", "both"]) == 2
    error = capsys.readouterr().err
    assert "both is an ensemble" in error
    assert "write the reports of its members: s0, s1" in error
