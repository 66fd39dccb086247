"""What to try next, where the figures of a finished run show it: a few rules, each with a threshold and its reason."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featherweight import paths
from featherweight.config import Competition, Recipe
from featherweight.evaluation.intervals import NORMAL
from featherweight.evaluation.metrics import Score
from featherweight.runs.run import Run

EVALUATIONS = 5  # epochs with a holdout score that a trend needs
NINETY_FIVE = 2 * NORMAL  # standard errors between the ends of a 95 % interval
LEARNT = 0.99  # training accuracy above which more epochs have nothing left to teach
APART = 0.1  # nats between the losses of training and holdout: a tenth less probability of the right class
TIMES = 1.5  # ratio of the losses: early in training both are high and close
MODEST = 0.02  # smallest reported difference between accuracy and confidence


@dataclass(frozen=True)
class Advice:
    """What the figures show, what helps, and the changes of the recipe that try it."""

    shows: str
    helps: str
    changes: tuple[str, ...] = ()

    def command(self, run: Run, name: str) -> str:
        """Return the command that trains the run's recipe with these changes, under another name."""
        recipe = paths.shown(run.folder / "recipe.yaml")
        settings = [word for change in self.changes for word in ("--set", change)]
        words = ["./run.sh", recipe, "--competition", run.competition_name, *settings, "--name", name]
        return shlex.join(words)


def advise(
    run: Run, score: Score, history: pd.DataFrame | None, probs: NDArray[np.float32], true: NDArray[np.int64]
) -> list[Advice]:
    """Return what the holdout's `probs` float32 [N, K] and `true` classes int64 [N] advise, and the history of a
    trained run.
    """
    advice = (
        []
        if history is None
        else [rising(history, score, run.recipe), losses_apart(history, run.recipe, run.competition)]
    )
    return [each for each in (*advice, unsure(probs, true, run.recipe)) if each is not None]


def rising(history: pd.DataFrame, score: Score, recipe: Recipe) -> Advice | None:
    """Advise longer training if the holdout's score was still rising and the training images were not memorised.

    It rose if the mean of the last fifth of the epochs is better than that of the fifth before by more than the score's
    standard error.
    """
    looked = history.dropna(subset=["holdout_score"])
    if len(looked) < EVALUATIONS:
        return None
    few = len(looked) // 5
    last, before = looked[-few:], looked[-2 * few : -few]
    gain = score.of.sign * float(last["holdout_score"].mean() - before["holdout_score"].mean())
    right = last["train_accuracy"].mean()  # NaN where it was not measured
    if gain <= (score.high - score.low) / NINETY_FIVE or right >= LEARNT:
        return None
    epochs, more = 2 * recipe.train.epochs, f"{score.of.number(gain, '+')}{score.of.percent}"
    passed = int(looked["epoch"].iloc[-1] - looked["epoch"].iloc[-1 - few])
    span = f"the last {passed} epochs" if passed > 1 else "the last epoch"
    shows = f"The holdout's score was still rising: {more} over {span}."
    changes = [f"train.epochs={epochs}"]
    # Either would end the longer run where this one ended.
    changes += ["train.steps=null"] if recipe.train.steps is not None else []
    changes += ["train.shortened=[]"] if recipe.train.shortened else []
    return Advice(shows, f"Train longer: {epochs} epochs.", tuple(changes))


def losses_apart(history: pd.DataFrame, recipe: Recipe, competition: Competition) -> Advice | None:
    """Compare the losses of training and holdout at the end: a holdout loss far above means overfitting; far below,
    that the training task is the harder one. None if the two losses measure different quantities.
    """
    weighted = recipe.loss.arguments.get("weights", "equal") != "equal"
    if recipe.loss.name != "cross_entropy" or weighted or recipe.distill is not None:
        return None  # the training loss is another quantity than the holdout's
    looked = history.dropna(subset=["holdout_loss", "train_loss"])
    if len(looked) < EVALUATIONS:
        return None
    last = looked[-(len(looked) // 5) :]
    trained, held = float(last["train_loss"].mean()), float(last["holdout_loss"].mean())
    losses = f"The holdout loss ({held:.2f}) ends {{}} the training loss ({trained:.2f})."
    harder = _harder(recipe, competition)
    if held > TIMES * trained and held - trained > APART:
        if not harder:
            return Advice(
                losses.format("well above"), "Use stronger augmentation, more weight decay or a smaller model."
            )
        words = " and ".join(harder)
        return Advice(losses.format("well above"), f"It overfits: {words} help.", tuple(harder.values()))
    if trained - held > APART:
        return Advice(
            losses.format("below"),
            "This is expected: label smoothing, mixing and augmentation make training harder than the holdout. If more "
            "epochs do not help, use less of them.",
        )
    return None


def _harder(recipe: Recipe, competition: Competition) -> dict[str, str]:
    """Return what would make training harder and is not used: its name, and the change that adds it."""
    left = {}
    if not recipe.loss.arguments.get("label_smoothing"):
        left["label smoothing"] = "loss.label_smoothing=0.1"
    if not recipe.augment:
        flip = ", flip" if competition.image.mirror else ""
        left["augmentation"] = f"augment=[{{name: crop, padding: 0.125}}{flip}]"
    elif not recipe.mix:
        left["mixing images"] = "mix=[cutmix]"
    return left


def unsure(probs: NDArray[np.float32], true: NDArray[np.int64], recipe: Recipe) -> Advice | None:
    """Advise calibration if accuracy and confidence differ, by MODEST at least and by more than two standard errors of
    the difference.
    """
    apart = (probs.argmax(1) == true) - probs.max(1).astype(np.float64)
    gap, chance = float(apart.mean()), 2 * float(apart.std()) / len(apart) ** 0.5
    if recipe.predict.calibrate or abs(gap) <= max(MODEST, chance):
        return None
    observed = f"accuracy {np.mean(probs.argmax(1) == true):.1%}, mean confidence {probs.max(1).mean():.1%}"
    side, word = ("above", "underconfident") if gap > 0 else ("below", "overconfident")
    return Advice(
        f"The bars lie {side} the line: {observed}; the model is {word}.",
        "Calibrate its probabilities; the predicted classes stay the same.",
        ("predict.calibrate=true",),
    )
