"""The advice of a report: each rule on both sides of its threshold, and each command as a user would type it."""

import shlex

import numpy as np
import pandas as pd
import pytest

from featherweight.config import load_competition, load_recipe, store
from featherweight.evaluation.metrics import Score
from featherweight.report import advice

DIGITS = load_competition("digits")
SCORE = Score(0.9, 0.88, 0.92, 900)  # a standard error of a point


def history(scores, trained=0.95, train_loss=0.5, holdout_loss=0.5):
    return pd.DataFrame(
        {
            "epoch": np.arange(1, len(scores) + 1),
            "holdout_score": scores,
            "train_accuracy": trained,
            "train_loss": train_loss,
            "holdout_loss": holdout_loss,
        }
    )


def tiny(*settings):
    return load_recipe("tiny", settings)


@pytest.mark.parametrize(
    ("scores", "trained", "score", "advised"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.815], 0.95, SCORE, True),
        ([0.5, 0.6, 0.7, 0.8, 0.805], 0.95, SCORE, False),  # less than a standard error
        ([0.5, 0.6, 0.7, 0.8, 0.9], 0.995, SCORE, False),  # learnt by heart
        ([0.5, 0.6, 0.7, 0.8, 0.9], np.nan, SCORE, True),  # mixed pictures: nobody knows how many are right
        ([0.5, 0.6, 0.7, 0.9], 0.95, SCORE, False),  # too few epochs
        ([0.5, np.nan, 0.6, np.nan, 0.7, np.nan, 0.8, np.nan, 0.9], 0.95, SCORE, True),  # looked at now and then
        ([0.9, 0.7, 0.6, 0.5, 0.4], 0.95, Score(0.4, 0.38, 0.42, 900, "log_loss"), True),  # lower is better
        ([0.4, 0.5, 0.6, 0.7, 0.8], 0.95, Score(0.8, 0.78, 0.82, 900, "log_loss"), False),
    ],
)
def test_curves_that_still_rise_ask_for_more_epochs(scores, trained, score, advised):
    found = advice.rising(history(scores, trained), score, tiny("train.epochs=7"))
    assert (found is not None) == advised
    if found:
        assert found.changes == ("train.epochs=14",)


def test_nothing_cuts_the_longer_training_short(tmp_path):
    """As a run of `auto` is cut, whose last epoch does not fit, and which is shortened on a slower machine."""
    recipe = tiny("train.epochs=7", "train.steps=100", "train.shortened=[[40, 90]]")
    found = advice.rising(history([0.5, 0.6, 0.7, 0.8, 0.9]), SCORE, recipe)
    store(recipe, tmp_path / "recipe.yaml")
    longer = load_recipe(str(tmp_path / "recipe.yaml"), found.changes).train
    assert (longer.epochs, longer.steps, longer.shortened) == (14, None, [])


def test_the_span_is_in_epochs_however_seldom_the_holdout_is_scored():
    seldom = history([np.nan if place % 3 else 0.5 + place / 100 for place in range(16)], 0.9)
    found = advice.rising(seldom, SCORE, tiny("train.epochs=16", "train.evaluate_every=3"))
    assert "over the last 3 epochs" in found.shows


@pytest.mark.parametrize(
    ("train_loss", "holdout_loss", "said"),
    [
        (0.2, 0.31, "well above"),
        (0.2, 0.29, None),  # not one and a half times
        (0.01, 0.1, None),  # nine times, and yet nothing
        (0.5, 0.39, "below"),
        (0.5, 0.41, None),
    ],
)
def test_losses_apart(train_loss, holdout_loss, said):
    found = advice.losses_apart(history([0.5] * 5, 0.9, train_loss, holdout_loss), tiny(), DIGITS)
    assert (found is None) == (said is None)
    if found:
        assert said in found.shows


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ((), ("loss.label_smoothing=0.1", "mix=[cutmix]")),
        (("augment=[]",), ("loss.label_smoothing=0.1", "augment=[{name: crop, padding: 0.125}]")),
        (("loss={name: cross_entropy, label_smoothing: 0.1}", "mix=[mixup]"), ()),
    ],
)
def test_what_is_learnt_by_heart_is_made_harder_by_what_is_not_in_use(settings, changes, tmp_path):
    recipe = tiny(*settings)
    found = advice.losses_apart(history([0.5] * 5, 0.9, 0.1, 0.9), recipe, DIGITS)
    assert found.changes == changes
    store(recipe, tmp_path / "recipe.yaml")  # as it lies in the run's folder, which the command names
    assert load_recipe(str(tmp_path / "recipe.yaml"), changes).train == recipe.train


def test_a_loss_of_another_kind_is_not_held_against_the_holdouts():
    assert advice.losses_apart(history([0.5] * 5, 0.9, 0.1, 0.9), tiny("loss=focal"), DIGITS) is None


@pytest.mark.parametrize(
    ("right", "sure", "count", "said"),
    [
        (0.9, 0.8, 1000, "above"),
        (0.8, 0.9, 1000, "below"),
        (0.9, 0.885, 1000, None),  # less than two points
        (0.9, 0.85, 20, None),  # chance
    ],
)
def test_bars_off_the_line(right, sure, count, said):
    probs = np.tile(np.array([[sure, 1 - sure]], np.float32), (count, 1))
    true = (np.arange(count) >= right * count).astype(np.int64)
    found = advice.unsure(probs, true, tiny())
    assert (found is None) == (said is None)
    if found:
        assert f"{said} the line" in found.shows
    assert advice.unsure(probs, true, tiny("predict.calibrate=true")) is None


def test_the_command_is_one(tmp_path, monkeypatch):
    class Found:
        folder = tmp_path / "runs" / "first"
        competition_name = "digits"

    found = advice.Advice("", "", ("loss.label_smoothing=0.1", "mix=[cutmix]"))
    command = found.command(Found(), "first-next")
    assert command.endswith("--set loss.label_smoothing=0.1 --set 'mix=[cutmix]' --name first-next")
    assert shlex.split(command)[:2] == ["./run.sh", str(tmp_path / "runs" / "first" / "recipe.yaml")]


@pytest.mark.parametrize("setting", ["distill.teachers=[other]", "loss={name: cross_entropy, weights: inverse}"])
def test_a_training_loss_that_measures_something_else_is_not_compared(setting):
    assert advice.losses_apart(history([0.5] * 5, 0.9, 0.1, 0.9), tiny(), DIGITS) is not None
    assert advice.losses_apart(history([0.5] * 5, 0.9, 0.1, 0.9), tiny(setting), DIGITS) is None
