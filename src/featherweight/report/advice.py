"""What to do next, where the figures of a finished run show it: a few rules, each with a threshold and its reason."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featherweight import paths
from featherweight.config import Competition, Recipe
from featherweight.evaluation.metrics import Score
from featherweight.runs.run import Run

EVALUATIONS = 5  # epochs with a holdout score from which a trend is read; fewer have no fifths
NINETY_FIVE = 2 * 1.96  # standard errors between the ends of a 95 % interval
LEARNT = 0.99  # of the training images are right: more epochs have nothing left to teach
APART = 0.1  # nats between the losses of training and holdout: the right class is given a tenth less of probability
TIMES = 1.5  # the training loss, from which the holdout's is another one: early in training both are high and near
MODEST = 0.02  # between accuracy and confidence: two points, too little to decide anything by


@dataclass(frozen=True)
class Advice:
    """What the figures show, what helps, and the changes of the recipe by which to try it."""

    shows: str
    helps: str
    changes: tuple[str, ...] = ()

    def command(self, run: Run, name: str) -> str:
        """The command that trains the run's recipe with these changes, under another name."""
        recipe = paths.shown(run.folder / "recipe.yaml")
        settings = [word for change in self.changes for word in ("--set", change)]
        words = ["./run.sh", recipe, "--competition", run.competition_name, *settings, "--name", name]
        return shlex.join(words)


def advise(
    run: Run, score: Score, history: pd.DataFrame | None, probs: NDArray[np.float32], true: NDArray[np.int64]
) -> list[Advice]:
    """Of `probs` float32 [N, K] and `true` int64 [N] on the holdout, and the history if it was trained."""
    advice = (
        [] if history is None else [rising(history, score, run.recipe), apart(history, run.recipe, run.competition)]
    )
    return [each for each in (*advice, unsure(probs, true, run.recipe)) if each is not None]


def rising(history: pd.DataFrame, score: Score, recipe: Recipe) -> Advice | None:
    """Train longer: the holdout's score was still rising at the end, and the training images were not memorised.

    It rose if the last fifth of the epochs is better than the fifth before by more than the score's standard error,
    below which the same weights on other images would differ as much.
    """
    looked = history.dropna(subset=["holdout_score"])
    if len(looked) < EVALUATIONS:
        return None
    few = len(looked) // 5
    last, before = looked[-few:], looked[-2 * few : -few]
    gain = score.of.sign * float(last["holdout_score"].mean() - before["holdout_score"].mean())
    right = last["train_accuracy"].mean()  # not a number where it was not measured
    if gain <= (score.high - score.low) / NINETY_FIVE or right >= LEARNT:
        return None
    epochs = 2 * recipe.train.epochs
    more = f"{score.of.number(gain, '+')}{score.of.percent}"
    span = f"the last {few} epochs" if few > 1 else "the last epoch"
    shows = f"The holdout's score was still rising: {more} over {span}."
    return Advice(shows, f"Train longer: {epochs} epochs.", (f"train.epochs={epochs}",))


def apart(history: pd.DataFrame, recipe: Recipe, competition: Competition) -> Advice | None:
    """The losses of training and holdout at the end: far above, it overfits; far below, training is the
    harder task of the two.
    """
    if recipe.loss.name != "cross_entropy":
        return None  # the training loss is in other units than the holdout's
    looked = history.dropna(subset=["holdout_loss", "train_loss"])
    if len(looked) < EVALUATIONS:
        return None
    last = looked[-(len(looked) // 5) :]
    trained, held = float(last["train_loss"].mean()), float(last["holdout_loss"].mean())
    losses = f"The holdout's loss ({held:.2f}) ends {{}} that of training ({trained:.2f})."
    harder = _harder(recipe, competition)
    if held > TIMES * trained and held - trained > APART:
        if not harder:
            return Advice(
                losses.format("well above"), "More of the augmentation, more weight decay or a smaller model."
            )
        words = " and ".join(harder)
        return Advice(losses.format("well above"), f"It overfits: {words} help.", tuple(harder.values()))
    if trained - held > APART:
        return Advice(
            losses.format("below"),
            "No fault: label smoothing, mixing and augmentation make training harder than the holdout is. Where more "
            "epochs bring nothing, try less of them.",
        )
    return None


def _harder(recipe: Recipe, competition: Competition) -> dict[str, str]:
    """What makes training harder and is not in use: its name, and the change that brings it."""
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
    """Calibrate: it is right more often than it says (bars above the line), or less often.

    By MODEST at least, and by more than two standard errors of the difference, which are chance.
    """
    apart = (probs.argmax(1) == true) - probs.max(1).astype(np.float64)
    gap, chance = float(apart.mean()), 2 * float(apart.std()) / len(apart) ** 0.5
    if recipe.predict.calibrate or abs(gap) <= max(MODEST, chance):
        return None
    observed = f"it is right {np.mean(probs.argmax(1) == true):.1%} of the time and {probs.max(1).mean():.1%} sure"
    side, word = ("above", "modest") if gap > 0 else ("below", "sure of itself")
    return Advice(
        f"The bars lie {side} the line: {observed}, too {word}.",
        "Calibrate its probabilities; the classes stay as they are.",
        ("predict.calibrate=true",),
    )
