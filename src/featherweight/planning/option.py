"""An option of a plan: a candidate, trained for as long as the time allows, with its cost and its expected score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from featherweight.augment.table import MIRRORING
from featherweight.config import Competition, Recipe, load_recipe
from featherweight.console import duration
from featherweight.evaluation import tta
from featherweight.inspection import checks
from featherweight.planning import views
from featherweight.planning.candidates import Candidate, evaluate_every
from featherweight.planning.costs import EPOCH_FACTOR, REGRESSION_SECONDS, Cost, MeasuredCandidate
from featherweight.planning.curves import Curves, ScoreForecast
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.planning.packing_time import GROUPING_SECONDS
from featherweight.planning.timeline import REST_SECONDS, Timeline, epochs_within, passes_after
from featherweight.runs import predictions
from featherweight.schema import Choice
from featherweight.training.deadline import evaluations
from featherweight.training.probe import regression_work

PLANNED_SHARE = 0.98  # of the time; on a machine that becomes slower, the training is shortened (`Deadline`)
SHORTEST_EPOCHS = 0.25  # of a network from scratch; in fewer it hardly sees the classes,
ENOUGH_IMAGES = 10_000  # except if these are so many images: after them a fast net is right on 86 % of Fashion-MNIST
FEWEST_TUNED_IMAGES = 8000  # of a part of an epoch of fine-tuning; they raise CIFAR-10 from 77.2 to 85.8 %


@dataclass(frozen=True)
class Findings:
    """What pilots showed.

    Attributes:
        mirror: true if images may be mirrored.
        upside_down: true if up and down are alike.
        unlike: true if the images are unlike those that the pretrained weights were trained on, or no probe has shown
            that they are like them: too bold fine-tuning costs less than too gentle one.
        slowdown: the time of a step divided by the time measured before.
        regression_seconds: the time of a probe's regression, per `regression_work`.
        at_chance: the kinds of networks (True: with pretrained weights) of which a pilot has not learned anything.
        scratch_unknown: true if no pilot has shown what networks from random weights reach, and pretrained weights are
            not known to be worth nothing: then these come first, since the curves cannot tell how hard the data are.
    """

    mirror: bool = True
    upside_down: bool = False
    unlike: bool = False
    slowdown: float = 1.0
    regression_seconds: float = REGRESSION_SECONDS
    at_chance: frozenset[bool] = frozenset()
    scratch_unknown: bool = False


@dataclass(frozen=True)
class PlanContext:
    """What the options of a plan share: the data, the `seconds` to train in, and what scores are forecast from."""

    facts: DatasetFacts
    competition: Competition
    seconds: float
    curves: Curves
    findings: Findings


@dataclass(frozen=True)
class Option:
    """A candidate that fits into the time, with its cost and its expected score.

    Attributes:
        settings: `key=value` settings of its recipe.
        epochs: passes over the training images (0: a linear probe).
        step: expected seconds of a training step.
        evaluation: expected seconds of an evaluation on the holdout.
    """

    candidate: Candidate
    settings: Sequence[str]
    parameters: int
    cost: Cost
    timeline: Timeline
    forecast: ScoreForecast
    mirror: bool
    epochs: float
    step: float
    evaluation: float
    disk: int  # bytes that a run writes
    by_size: int | None = None  # pixels, at which the network was timed in place of its own

    @cached_property
    def recipe(self) -> Recipe:
        """Its recipe, with every key."""
        return load_recipe(self.candidate.recipe, self.settings)

    def seen(self, choices: Sequence[Choice]) -> list[Choice]:
        """Return the augmentations or views that are used: without those that mirror, if nothing is mirrored."""
        return [choice for choice in choices if self.mirror or choice.name not in MIRRORING]

    @property
    def line(self) -> str:
        """The option as one line of text."""
        takes = f"{_length(self.epochs)} in {duration(self.timeline.total)}"
        takes += f" (by its time at {self.by_size} px)" if self.by_size else ""
        return f"{self.candidate.title}: {takes}, {self.parameters:,} parameters, expected accuracy {self.forecast}"


def _length(epochs: float) -> str:
    if epochs == 0:
        return "a linear probe"
    if epochs < 1:
        return f"{epochs:.2f} of an epoch"
    return "1 epoch" if round(epochs, 1) == 1 else f"{round(epochs, 1):g} epochs"


def fitted(measured: MeasuredCandidate, context: PlanContext) -> Option | str:
    """Return the candidate with those test-time views that are worth their time; or the reason why none fits."""
    candidate = measured.candidate
    usual = candidate.one_epoch
    less = [*views.settings(usual, candidate.seen(context.competition))]
    tried = [_with_views(measured.also(fewer), usual, context) for fewer in less]
    fitting = [option for option in tried if isinstance(option, Option)]
    if not fitting and usual.head.start == "probe":  # the features of each image once, if there is no time for twice
        tried.append(_with_views(measured.also((*less[-1], "image.mirror=false")), usual, context))
        fitting = [option for option in tried[-1:] if isinstance(option, Option)]
    # Where none is forecast to be better than a guess, the longest training.
    return max(fitting, key=lambda option: (option.forecast.value, option.epochs)) if fitting else tried[-1]


def _with_views(measured: MeasuredCandidate, usual: Recipe, context: PlanContext) -> Option | str:
    """Return the candidate, trained for as long as the time allows, or why it does not fit; `usual` has all views."""
    facts, findings = context.facts, context.findings
    candidate, cost, slowdown = measured.candidate, measured.cost, findings.slowdown
    recipe, seen = candidate.one_epoch, candidate.seen(context.competition)
    evaluation = facts.holdout * cost.view * slowdown
    after = passes_after(facts, tta.count(predictions.views(recipe, seen))) * cost.view * slowdown
    images = facts.images + facts.holdout + facts.predict
    compared = images if images <= checks.MOST_COMPARED else 0  # the report looks for near copies
    rest = REST_SECONDS + GROUPING_SECONDS * compared
    probing, features = _probe(recipe, 2 if seen.image.mirror else 1, cost, context)
    steps = max(1, facts.images // min(recipe.train.batch_size, facts.images))
    epoch = steps * cost.step * slowdown * EPOCH_FACTOR
    left = context.seconds * PLANNED_SHARE - measured.packing - after - probing - rest
    epochs = min(epochs_within(left, epoch, steps, evaluation), float(candidate.longest))
    suited = measured.with_enough_steps(facts.images, epochs)
    option = None if suited is measured else _with_views(suited, usual, context)
    if isinstance(option, Option):  # smaller batches take longer by the image
        return option
    epochs = _measured_length(epochs, recipe, candidate, facts)
    if epochs < 0:
        return f"an epoch takes {duration(epoch)}, but only {duration(max(left, 0))} are left for training"
    begun = math.ceil(epochs)
    cut = [] if epochs == begun else [f"train.steps={round(epochs * steps)}"]
    evaluated = evaluations(0, begun, evaluate_every(begun)) if begun else 1
    training = probing + epochs * epoch + evaluated * evaluation
    even = context.curves.forecast(facts, measured.parameters, epochs, candidate.size, candidate.starts_published)
    even = even.raised(-views.lost(recipe, usual, seen))
    return Option(
        candidate,
        [*candidate.settings(begun), *cut],
        measured.parameters,
        replace(cost, memory=max(cost.memory, 2 * features)),  # they are copied once to be fitted
        Timeline(measured.packing, training, after, rest),
        _for_these_classes(even, facts, candidate.starts_published in findings.at_chance),
        seen.image.mirror,
        epochs,
        cost.step * slowdown,
        evaluation,
        measured.packed + features + 2 * cost.checkpoint,  # a new checkpoint is written beside the old one
        measured.by_size,
    )


def _probe(recipe: Recipe, times: int, cost: Cost, context: PlanContext) -> tuple[float, int]:
    """Return the seconds of a recipe's linear probe, which sees each image so many times, and the bytes of what it is
    fitted to; zeros, if it has none.
    """
    if recipe.head.start != "probe":
        return 0.0, 0
    seen = times * context.facts.images
    fitting = context.findings.regression_seconds * regression_work(context.facts.images, times, context.facts.classes)
    return seen * cost.view * context.findings.slowdown + fitting, seen * cost.features * 4


def _measured_length(epochs: float, recipe: Recipe, candidate: Candidate, facts: DatasetFacts) -> float:
    """Return the epochs that fit, if so short a training was measured; else 0, a probe alone; -1, if there is none."""
    if not candidate.starts_published:
        return epochs if epochs >= min(SHORTEST_EPOCHS, ENOUGH_IMAGES / facts.images) else -1.0
    probes = recipe.head.start == "probe"
    if epochs >= (min(1.0, FEWEST_TUNED_IMAGES / facts.images) if probes else 1.0):
        return epochs
    return 0.0 if probes and epochs >= 0 else -1.0


def _for_these_classes(even: ScoreForecast, facts: DatasetFacts, at_chance: bool) -> ScoreForecast:
    """Return the forecast for this data's class frequencies, given that for even ones (`DatasetFacts.unevenness`).

    No score is forecast below that of always predicting the most frequent class. If a pilot was no better than that,
    the range begins there, and the score is the middle between it and the forecast of the curves.
    """
    value, low, high = (1 - facts.unevenness * (1 - score) for score in (even.value, even.low, even.high))
    guessed = 1 - facts.chance
    if not facts.several:  # a set of classes is not guessed
        value, low, high = max(value, guessed), max(low, guessed), max(high, guessed)
    return ScoreForecast((guessed + value) / 2, guessed, high) if at_chance else ScoreForecast(value, low, high)
