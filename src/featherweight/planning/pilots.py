"""Short trainings on the task itself, which say how hard it is, and whether its images may be mirrored.

The learning curves of other data sets tell how networks and lengths of training differ, not how hard a new task is: a
pilot's score stands in the table beside them. It is trained without mirror images. Where it then recognises mirrored
images much worse than images as they are, a mirror image is not of the same class: a letter, a road sign.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherweight.config import Competition, Recipe, load_recipe
from featherweight.console import duration, say
from featherweight.evaluation.tta import mirrored
from featherweight.planning.candidates import Candidate
from featherweight.planning.costs import Machine, Measured
from featherweight.planning.own_process import in_own_process
from featherweight.planning.packing_time import packing_seconds
from featherweight.planning.task import Task

EPOCHS = 3
FEWEST = 64  # images, with fewer of which a score says nothing
JUDGES = 1000  # images of the holdout at most
PACKING = 3.0  # times a pilot's seconds that may go into packing its images, which its kind of network then shares
LOST = 0.1  # of what a pilot knows beyond guessing: images that lose more by mirroring are then of other classes
SURE = 1.96  # standard errors by which the loss must lie above or below that


@dataclass(frozen=True)
class Loss:
    """How many more of the images a pilot gets wrong when they are mirrored, a fraction, and its standard error."""

    more: float
    error: float

    @property
    def least(self) -> float:
        """The lower end of the 95 % interval."""
        return self.more - SURE * self.error


@dataclass(frozen=True)
class Pilot:
    """How a short training of `images` for `epochs` went.

    `error` is the fraction of `holdout` images that it gets wrong, and `mirrored` how many more when they are mirrored.
    `slow` is how many times a step took what was measured before, and `start` the seconds per image that went by before
    the first step, for a probe.
    """

    candidate: Candidate
    parameters: int
    images: int
    epochs: int
    holdout: int
    error: float
    mirrored: Loss
    slow: float = 1.0
    start: float = 0.0

    def forbids_mirroring(self, classes: int) -> bool:
        """Are mirror images of other classes, beyond doubt?"""
        known = (1 - self.error) - 1 / classes
        return known > 0.1 and self.mirrored.least > LOST * known


def piloted(measured: Measured, task: Task, competition: Competition, seconds: float, machine: Machine) -> Pilot | None:
    """The candidate trained for about that many seconds; None where that is too little, or it fails."""
    candidate, cost = measured.candidate, measured.cost
    probing = candidate.starts_published
    epochs = 0 if probing else EPOCHS
    recipe = load_recipe(candidate.recipe, [*candidate.settings(epochs), "image.mirror=false"])
    judging = 2 * min(task.holdout, JUDGES) * cost.view
    each = cost.view * 1.5 if probing else epochs * cost.step / recipe.train.batch_size
    images = min(task.images, int((seconds - judging) / each))
    if images < max(FEWEST, 2 * task.classes):
        return None
    seen = competition.seen_by(recipe)
    packing = packing_seconds(seen)
    if packing > PACKING * seconds:
        say(f"    left out: its images would take {duration(packing)} to pack")
        return None
    trained = in_own_process(_trained, recipe, seen, images, machine, patience=4 * (seconds + packing) + 20)
    if trained is None:
        return None
    error, lost, judged, step, start = trained
    slow = step / cost.step if step else 1.0
    return Pilot(candidate, measured.parameters, images, epochs, judged, error, lost, slow, start / images)


def _trained(
    recipe: Recipe, competition: Competition, count: int, machine: Machine
) -> tuple[float, Loss, int, float, float]:
    """The error, what mirroring loses, images judged, seconds of a step, and seconds before the first: in this
    process.
    """
    import torch

    from featherweight.console import hushed
    from featherweight.data.parts import divide
    from featherweight.evaluation.inference import predict_probs
    from featherweight.models import build, start_pretrained
    from featherweight.models.pretrained_weights import starts_pretrained
    from featherweight.runs.predictions import augmentations
    from featherweight.runtime.device import start
    from featherweight.runtime.rng import derive
    from featherweight.training.examples import Examples
    from featherweight.training.trainer import Trainer

    device = start(machine.device, recipe.train.precision, machine.threads)
    with tempfile.TemporaryDirectory() as folder, hushed():
        train, holdout, _ = divide(recipe.split, competition, competition.load())
        drawn = np.random.default_rng(derive(recipe.seed, "pilot"))
        train = train.take(np.sort(drawn.permutation(len(train))[:count]))
        holdout = holdout.take(np.sort(drawn.permutation(len(holdout))[:JUDGES]))
        torch.manual_seed(derive(recipe.seed, "init"))
        model = build(recipe.model, competition.shape)
        if starts_pretrained(recipe.model):
            start_pretrained(model, recipe.model, competition.shape)
        examples = Examples(
            train, holdout.take(np.arange(1)), len(competition.classes), augmentations(recipe, competition)
        )
        began = time.perf_counter()
        history = Trainer(recipe, model, examples, device, Path(folder)).fit()
    trained = float(history["seconds"].iloc[-1])
    before = time.perf_counter() - began - trained
    steps = int(history["step"].iloc[-1])
    wrong, wrong_mirrored = (
        predict_probs(
            [model], holdout.images, runtime=device, views=views, batch_size=recipe.predict.batch_size
        ).argmax(1)
        != holdout.labels
        for views in ([], [mirrored])
    )
    lost = wrong_mirrored.astype(float) - wrong
    return (
        float(wrong.mean()),
        Loss(float(lost.mean()), float(lost.std() / math.sqrt(len(lost)))),
        len(holdout),
        trained / steps if steps else 0.0,
        before,
    )
