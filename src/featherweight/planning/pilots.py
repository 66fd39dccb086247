"""Train pilots: short trainings on the data at hand, which show how hard the data are and whether to mirror images.

The learning curves of other data sets show how networks and lengths of training differ, but not how hard a new data set
is: a pilot's score is added to their table. A pilot is trained without mirror images. If it then recognises mirrored
images much worse than the originals, a mirror image has another class, as with letters and road signs. A pilot that is
no better than always predicting the most frequent class shows nothing.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.config import Competition, Recipe, load_recipe
from featherweight.console import duration
from featherweight.data import near_duplicates
from featherweight.data.near_duplicates import Joined
from featherweight.data.pack import Data, LabelledPack
from featherweight.evaluation.tta import mirrored, upside_down
from featherweight.planning.candidates import FAST, batches
from featherweight.planning.costs import REGRESSION_SECONDS, Machine, MeasuredCandidate, seconds_of_an_image
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.planning.own_process import Failed, in_own_process
from featherweight.planning.packing_time import ListedImages
from featherweight.planning.pilot_outcome import FlipDrop, Pilot
from featherweight.training.deadline import Deadline
from featherweight.training.forecast import step_seconds
from featherweight.training.probe import regression_work

FEWEST_EPOCHS = 3
FEWEST_STEPS = 60  # if there is time, so many epochs as have these: of a small set three may have less than ten
FEWEST_IMAGES = 64  # a score on fewer says nothing
MOST_JUDGES = 1000  # held-out images
JUDGED_VIEWS = 3  # as they are, mirrored, upside down
JUDGING_SHARE = 1 / 3  # maximum share of a pilot's time for predicting them
SLOWER = 1.5  # times what was measured it may take, since a probe cannot be shortened
PROCESS_SECONDS = 5.0  # for a pilot's process to start, to read the images and to answer,
ANSWER_SECONDS = 1.0  # the last of these after its training


@dataclass(frozen=True)
class PilotContext:
    """What pilots share: the facts about the data, the listed images, the ids of training images, to learn from
    (`train`) and to be judged by (`judges`), and the machine.
    """

    facts: DatasetFacts
    listed: ListedImages
    train: Sequence[str]
    judges: Sequence[str]
    machine: Machine


def piloted(measured: MeasuredCandidate, context: PilotContext, seconds: float, ends: float) -> Pilot | str:
    """Train a candidate for about `seconds`, less if it would not be done at `ends`, a reading of `time.monotonic`.

    Returns the pilot, or a sentence that says why there is none.
    """
    candidate, cost, facts = measured.candidate, measured.cost, context.facts
    probing = candidate.starts_published
    recipe = load_recipe(candidate.recipe, [*candidate.settings(0 if probing else FEWEST_EPOCHS), "image.mirror=false"])
    seen = context.listed.competition.seen_by(recipe)
    left = ends - time.monotonic() - context.listed.seconds(seen.image) - PROCESS_SECONDS
    seconds = min(seconds, left / SLOWER)
    most = min(len(context.judges), MOST_JUDGES)
    judges = max(0, min(most, int(JUDGING_SHARE * seconds / (JUDGED_VIEWS * cost.view))))
    judging = JUDGED_VIEWS * judges * cost.view
    planned, epochs = recipe.train.batch_size, 0
    each = cost.step / planned
    if probing:
        each = cost.view + REGRESSION_SECONDS * regression_work(1000, 1, facts.classes) / 1000
    images = _fitting(seconds - judging, each, 1 if probing else FEWEST_EPOCHS, context)
    if not probing:  # of few images in large batches it would take too few steps to learn anything
        own = ["image.mirror=false", *(batches(images, FEWEST_EPOCHS * images) if candidate.recipe == FAST else ())]
        batch = load_recipe(candidate.recipe, [*candidate.fixed, *own]).train.batch_size
        cost = cost.in_batches(batch, planned)
        each = cost.step / batch
        images = _fitting(seconds - judging, each, FEWEST_EPOCHS, context)
        epochs = _epochs(images, batch, (seconds - judging) / each)
        recipe = load_recipe(candidate.recipe, [*candidate.settings(epochs), *own])
    if images < max(FEWEST_IMAGES, 2 * facts.classes) or judges < max(1, min(FEWEST_IMAGES, most)):
        there_are = f"in {duration(max(0.0, seconds))}, without decoding,"
        return f"{there_are} it would train on {images:,} images and be judged by {judges:,}: too few"
    context.listed.load(seen)
    drawn = np.random.default_rng(0)
    shown = [_drawn(ids, count, drawn) for ids, count in ((context.train, images), (context.judges, judges))]
    limit = PilotTime(ends, judging, cost.step)
    try:
        left = ends - time.monotonic()
        result = in_own_process(_trained, recipe, seen, *shown, context.machine, limit, patience=left)
    except Failed as failed:
        return str(failed)
    slowdown = result.view / cost.view if probing else result.step / cost.step
    regression = result.fit_seconds / regression_work(images, 1, facts.classes) if probing else None
    return Pilot(
        candidate,
        measured.parameters,
        images,
        result.epochs,
        result.judged,
        result.error,
        result.chance,
        result.mirror_drop,
        result.upside_drop,
        slowdown,
        regression,
    )


def _fitting(seconds: float, each: float, epochs: int, context: PilotContext) -> int:
    """Return how many training images can be seen so many times in `seconds`, if each takes `each`."""
    return max(0, min(len(context.train), int(seconds / each / epochs)))


def _epochs(images: int, batch: int, most: float) -> int:
    """Return how many epochs a pilot trains on so many images, if it can see `most` in all."""
    steps = max(1, images // batch)
    return max(FEWEST_EPOCHS, min(-(-FEWEST_STEPS // steps), int(most / max(1, images))))


def _drawn(ids: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """Return a random choice of the ids, in their original order."""
    return [ids[place] for place in np.sort(random.permutation(len(ids))[:count])]


@dataclass(frozen=True)
class PilotTime:
    """When a pilot has to be done, a reading of `time.monotonic`, and the expected seconds of judging it, and of a step
    of its training.
    """

    ends: float
    judging: float
    step: float

    def deadline(self) -> Deadline:
        """Return the deadline of the training, which is shortened on a machine that has become slower."""
        now = time.monotonic()
        return Deadline(now, self.ends - now, self.judging + ANSWER_SECONDS, self.step)


@dataclass(frozen=True)
class PilotResult:
    """What a pilot's process returns: the epochs it was trained for, errors on `judged` images, and the seconds of a
    step, of a view of one image, and of a probe's regression.
    """

    epochs: float
    error: float
    chance: float
    mirror_drop: FlipDrop
    upside_drop: FlipDrop
    judged: int
    step: float
    view: float
    fit_seconds: float


def _trained(
    recipe: Recipe,
    competition: Competition,
    shown: Sequence[str],
    judged: Sequence[str],
    machine: Machine,
    limit: PilotTime,
) -> PilotResult:
    """Train the candidate on the images with ids `shown`, and judge it by the others, in this process."""
    import sklearn.linear_model  # noqa: F401 - takes seconds, which are not part of a regression
    import torch

    from featherweight.console import hushed
    from featherweight.evaluation.inference import predict_probs
    from featherweight.models import build, start_pretrained
    from featherweight.models.pretrained_weights import starts_pretrained
    from featherweight.runs.predictions import augmentations
    from featherweight.runtime.device import make_runtime
    from featherweight.runtime.rng import derive
    from featherweight.training.examples import Examples
    from featherweight.training.trainer import Trainer

    device = make_runtime(machine.device, recipe.train.precision, machine.threads)
    with tempfile.TemporaryDirectory() as folder, hushed():
        data = competition.load()
        train = _named(data, shown)
        holdout = _unlike(train, _named(data, judged))
        torch.manual_seed(derive(recipe.seed, "init"))
        model = build(recipe.model, competition.shape)
        if starts_pretrained(recipe.model):
            start_pretrained(model, recipe.model, competition.shape)
        examples = Examples(
            train, holdout.take(np.arange(1)), len(competition.classes), augmentations(recipe, competition)
        )
        trainer = Trainer(recipe, model, examples, device, Path(folder))
        history = trainer.fit(deadline=limit.deadline())

    def wrong(views: list[Any], count: int | None = None) -> NDArray[np.bool_]:
        batch = recipe.predict.batch_size
        probs = predict_probs([model], holdout.images[:count], runtime=device, views=views, batch_size=batch)
        return np.asarray(probs.argmax(1) != holdout.labels[:count])

    as_it_is = wrong([])
    flipped: list[NDArray[np.bool_]] = []
    count = len(holdout)
    view = seconds_of_an_image(
        lambda few: flipped.append(wrong([mirrored], few)), min(count, recipe.predict.batch_size), count
    )
    flipped.append(wrong([upside_down]))

    def drop(answers: NDArray[np.bool_]) -> FlipDrop:
        lost = answers.astype(float) - as_it_is
        return FlipDrop(float(lost.mean()), float(lost.std() / math.sqrt(count)))

    return PilotResult(
        int(history["step"].iloc[-1]) / trainer.steps_per_epoch,
        float(as_it_is.mean()),
        1 - float(np.bincount(holdout.labels).max()) / len(holdout),
        drop(flipped[-2]),
        drop(flipped[-1]),
        count,
        step_seconds(history),
        view,
        trainer.probe_seconds,
    )


def _named(data: Data, ids: Sequence[str]) -> LabelledPack:
    """Return the labelled images with these ids, without those that could not be decoded."""
    for part in data.labelled:
        place = {id: place for place, id in enumerate(part.ids)}
        found = [place[id] for id in ids if id in place]
        if found:
            return part.take(np.array(found))
    raise AssertionError("none of the ids is among the images")


def _unlike(train: LabelledPack, holdout: LabelledPack) -> LabelledPack:
    """Return the held-out images that are no copies of training images; all, if hardly any others are left."""
    same = near_duplicates.groups(Joined(train.images, holdout.images))
    seen = [place - len(train) for group in same if group[0] < len(train) for place in group if place >= len(train)]
    left = np.setdiff1d(np.arange(len(holdout)), seen)
    return holdout.take(left) if len(left) >= FEWEST_IMAGES else holdout
