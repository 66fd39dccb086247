"""Short trainings on the task itself, which say how hard it is, and whether its images may be mirrored.

The learning curves of other data sets tell how networks and lengths of training differ, not how hard a new task is: a
pilot's score stands in the table beside them. It is trained without mirror images. Where it then recognises mirrored
images much worse than images as they are, a mirror image is not of the same class: a letter, a road sign. A pilot that
answers no better than who always says the most frequent class has shown nothing.
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
from featherweight.data.pack import Data, Pack
from featherweight.evaluation.intervals import NORMAL
from featherweight.evaluation.tta import mirrored
from featherweight.planning.candidates import Candidate
from featherweight.planning.costs import Machine, MeasuredCandidate
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.planning.own_process import Failed, in_own_process
from featherweight.planning.packing_time import ListedImages
from featherweight.training.probe import rows_fitted

EPOCHS = 3
FEWEST = 64  # images, with fewer of which a score says nothing
JUDGES = 1000  # images of the holdout at most
JUDGING = 1 / 3  # of a pilot's seconds at most goes into them
PROBING = 1.5  # times what features take, a probe with its regression
TELLING = 0.1  # of chance: a pilot that knows less beyond it does not tell what mirroring loses
LOST = 0.1  # of what a pilot knows beyond chance: images that lose more by mirroring are then of other classes
UNLIKE = 0.15  # of chance: a probe that gets more wrong; of dogs and cats it was 0.07, of seedlings 0.24


@dataclass(frozen=True)
class MirrorDrop:
    """The increase of a pilot's error, a fraction, when the images are mirrored, and its standard error."""

    increase: float
    standard_error: float

    @property
    def lower_end(self) -> float:
        """The lower end of the 95 % interval of the increase."""
        return self.increase - NORMAL * self.standard_error


@dataclass(frozen=True)
class Pilot:
    """The outcome of a short training.

    Attributes:
        candidate: what was trained, for `epochs` epochs (0: a linear probe) on `images` images.
        parameters: of its network.
        holdout: the number of held-out images that judged it.
        error: the fraction of these that it gets wrong.
        chance: the fraction that is wrong if the most frequent class of these is always predicted.
        mirror_drop: how many more it gets wrong when the images are mirrored.
        slowdown: the time of a step (of a view, for a probe) divided by the time measured before.
        probe_seconds_per_row: the time of a probe's regression, per row of features (see `rows_fitted`).
    """

    candidate: Candidate
    parameters: int
    images: int
    epochs: int
    holdout: int
    error: float
    chance: float
    mirror_drop: MirrorDrop
    slowdown: float = 1.0
    probe_seconds_per_row: float | None = None

    @property
    def has_learned(self) -> bool:
        """Is it better than who always says the most frequent class, beyond doubt?"""
        doubt = math.sqrt(self.chance * (1 - self.chance) / self.holdout)
        return self.chance - self.error > NORMAL * doubt

    @property
    def tells_of_mirroring(self) -> bool:
        """Does it know enough to lose something by mirroring?"""
        return self.has_learned and self.chance - self.error > TELLING * self.chance

    @property
    def forbids_mirroring(self) -> bool:
        """Are mirror images of other classes, beyond doubt?"""
        return self.tells_of_mirroring and self.mirror_drop.lower_end > LOST * (self.chance - self.error)

    @property
    def is_unlike(self) -> bool:
        """Is it a probe whose network has seen nothing like these images?

        Of few images for each class a probe is wrong more often, whatever they show, and this is said of more than it
        is true of: to fine-tune too boldly costs less than too gently.
        """
        return self.candidate.starts_published and self.error > UNLIKE * self.chance

    def __str__(self) -> str:
        right = f"{1 - self.error:.1%} of {self.holdout:,} right after {self.images:,} images"
        if self.has_learned:
            return right
        return (
            f"{right}, and always saying the most frequent class {1 - self.chance:.1%}: it has not learned anything yet"
        )


@dataclass(frozen=True)
class PilotContext:
    """What pilots are trained in: a task, the ids of its images, and the machine."""

    facts: DatasetFacts
    listed: ListedImages
    train: Sequence[str]
    holdout: Sequence[str]
    machine: Machine


def piloted(measured: MeasuredCandidate, context: PilotContext, seconds: float, ends: float) -> Pilot | str:
    """The candidate trained for about that many seconds; or why not, as when it is not done at `ends`, a reading of
    `time.monotonic`.
    """
    candidate, cost, facts = measured.candidate, measured.cost, context.facts
    probing = candidate.starts_published
    epochs = 0 if probing else EPOCHS
    recipe = load_recipe(candidate.recipe, [*candidate.settings(epochs), "image.mirror=false"])
    judges = min(facts.holdout, JUDGES, int(JUDGING * seconds / (2 * cost.view)))
    each = cost.view * PROBING if probing else epochs * cost.step / recipe.train.batch_size
    images = min(facts.images, int((seconds - 2 * judges * cost.view) / each))
    if images < max(FEWEST, 2 * facts.classes) or judges < min(FEWEST, facts.holdout):
        return f"in {duration(seconds)} it would see {images:,} images and {judges:,} to be judged by: too few to tell"
    seen = context.listed.competition.seen_by(recipe)
    packing = context.listed.seconds(seen.image)
    if packing + seconds > ends - time.monotonic():
        return f"its images would take {duration(packing)} to decode, and planning is to end before"
    context.listed.load(seen)
    drawn = np.random.default_rng(0)
    shown = [_drawn(ids, count, drawn) for ids, count in ((context.train, images), (context.holdout, judges))]
    try:
        result = in_own_process(_trained, recipe, seen, *shown, context.machine, patience=ends - time.monotonic())
    except Failed as failed:
        return str(failed)
    slowdown = result.view / cost.view if probing else result.step / cost.step
    per_row = result.fit_seconds / rows_fitted(images, 1) if probing else None
    return Pilot(
        candidate,
        measured.parameters,
        images,
        epochs,
        result.judged,
        result.error,
        result.chance,
        result.mirror_drop,
        slowdown,
        per_row,
    )


def _drawn(ids: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """Some of the ids, in their order."""
    return [ids[place] for place in np.sort(random.permutation(len(ids))[:count])]


@dataclass(frozen=True)
class PilotResult:
    """What a pilot's process tells: errors of `judged` images, and the seconds of a step, of a view of one image, and
    of a probe's regression.
    """

    error: float
    chance: float
    mirror_drop: MirrorDrop
    judged: int
    step: float
    view: float
    fit_seconds: float


def _trained(
    recipe: Recipe, competition: Competition, shown: Sequence[str], judged: Sequence[str], machine: Machine
) -> PilotResult:
    """The candidate trained on images of these ids and judged by the others, in this process."""
    import sklearn.linear_model  # noqa: F401 - seconds, which are no part of a regression
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
        history = trainer.fit()

    def wrong(views: list[Any]) -> NDArray[np.bool_]:
        probs = predict_probs(
            [model], holdout.images, runtime=device, views=views, batch_size=recipe.predict.batch_size
        )
        return np.asarray(probs.argmax(1) != holdout.labels)

    as_it_is = wrong([])
    began = time.perf_counter()
    lost = wrong([mirrored]).astype(float) - as_it_is
    view = (time.perf_counter() - began) / len(holdout)
    assert holdout.labels is not None
    steps = int(history["step"].iloc[-1])
    return PilotResult(
        float(as_it_is.mean()),
        1 - float(np.bincount(holdout.labels).max()) / len(holdout),
        MirrorDrop(float(lost.mean()), float(lost.std() / math.sqrt(len(lost)))),
        len(holdout),
        float(history["seconds"].iloc[-1]) / steps if steps else 0.0,
        view,
        trainer.probe_seconds,
    )


def _named(data: Data, ids: Sequence[str]) -> Pack:
    """The labelled images of these ids, without what could not be decoded."""
    for part in (data.train, data.valid):
        if part is not None:
            place = {id: place for place, id in enumerate(part.ids)}
            found = [place[id] for id in ids if id in place]
            if found:
                return part.take(np.array(found))
    raise AssertionError("ids of images that are not there")


def _unlike(train: Pack, holdout: Pack) -> Pack:
    """The held-out images that show no picture which is trained on as well; all, where there are next to no others."""
    same = near_duplicates.groups(Joined(train.images, holdout.images))
    seen = [place - len(train) for group in same if group[0] < len(train) for place in group if place >= len(train)]
    left = np.setdiff1d(np.arange(len(holdout)), seen)
    return holdout.take(left) if len(left) >= FEWEST else holdout
