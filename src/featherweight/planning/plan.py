"""Plan a training: from the measured candidates, choose the one with the best expected score in the given time.

Everything that is left out for lack of time is decided here, before training. The plan is a recipe with every key,
which gives the same bytes whenever it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from featherweight import budget
from featherweight.augment.table import MIRRORING
from featherweight.config import Competition, Recipe, load_recipe
from featherweight.console import duration
from featherweight.errors import UserError
from featherweight.evaluation import tta
from featherweight.inspection import checks
from featherweight.planning import views
from featherweight.planning.candidates import BOLD, Candidate, evaluate_every
from featherweight.planning.costs import EPOCH_FACTOR, Cost, MeasuredCandidate
from featherweight.planning.curves import Curves, ScoreForecast
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.planning.packing_time import GROUPING_SECONDS
from featherweight.planning.timeline import REST_SECONDS, Timeline, epochs_within, passes_after
from featherweight.runs import predictions
from featherweight.schema import Choice
from featherweight.training.deadline import Deadline, evaluations
from featherweight.training.forecast import peak_memory
from featherweight.training.probe import rows_fitted

PLANNED_SHARE = 0.98  # of the time; on a machine that becomes slower, the training is shortened (`Deadline`)
PROBE_SECONDS_PER_ROW = 1.5e-4  # used if no pilot has measured it
UNUSED_SHARE = 0.2  # of the time: if a plan leaves more than this, it says so
SHORTEST_EPOCHS = 0.25  # of a network from scratch; in fewer it hardly sees the classes,
ENOUGH_IMAGES = 10_000  # except if these are so many images: after them a fast net is right on 86 % of Fashion-MNIST
FEWEST_TUNED_IMAGES = 8000  # of a part of an epoch of fine-tuning; they raise CIFAR-10 from 77.2 to 85.8 %


@dataclass(frozen=True)
class Findings:
    """What pilots showed.

    Attributes:
        mirror: true if images may be mirrored.
        unlike: true if the images are unlike those that the pretrained weights were trained on.
        slowdown: the time of a step divided by the time measured before.
        probe_seconds_per_row: the time of a probe's regression, per row of features (see `rows_fitted`).
        at_chance: the kinds of networks (True: with pretrained weights) of which a pilot has not learned anything.
        scratch_unknown: true if a pilot shows what pretrained weights are worth here, and none what random ones are.
    """

    mirror: bool = True
    unlike: bool = False
    slowdown: float = 1.0
    probe_seconds_per_row: float = PROBE_SECONDS_PER_ROW
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


@dataclass(frozen=True)
class Plan:
    """The options that fit, the best first; `refused` says why others do not, `found` what pilots showed."""

    facts: DatasetFacts
    seconds: float
    options: Sequence[Option]
    refused: Sequence[str]
    found: Sequence[str] = ()

    @property
    def best(self) -> Option:
        """The option that is trained."""
        return self.options[0]

    def deadline(self, began: float, minutes: float) -> Deadline:
        """Return the deadline of its run, `minutes` after `began` (a reading of `time.monotonic`)."""
        best = self.best
        after = best.timeline.predicting + best.timeline.rest
        return Deadline(began, minutes * 60, after, best.step, best.evaluation)

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        best = self.best
        recipe = best.recipe
        augment = ", ".join(choice.name for choice in best.seen(recipe.augment)) or "none"
        on_gpu = f", and {best.cost.on_gpu / 1e9:.1f} GB of the GPU's" if best.cost.on_gpu else ""
        shown = " x ".join(choice.name for choice in best.seen(recipe.predict.views)) or "none"
        words = [
            f"the data: {self.facts}",
            f"the plan: {best.line}",
            f"  batches of {recipe.train.batch_size}, {recipe.optimizer.name} at {recipe.optimizer.lr:g}; "  # type: ignore[attr-defined]
            f"augmentation: {augment}; test-time views: {shown}",
            f"  time: {best.timeline}; memory: {(peak_memory() + best.cost.memory) / 1e9:.1f} GB{on_gpu}; "
            f"disk: {best.disk / 1e6:,.0f} MB",
            *self._unused(),
            *(f"  {line}" for line in self.found),
        ]
        if len(self.options) > 1:
            words += ["instead of", *(f"  {option.line}" for option in self.options[1:])]
        return words + [f"  {reason}" for reason in self.refused]

    def _unused(self) -> Iterator[str]:
        """Yield a line if the best option leaves much of the time unused."""
        left = self.seconds * PLANNED_SHARE - self.best.timeline.total
        if left > UNUSED_SHARE * self.seconds:
            most = f"this network is trained for {self.best.candidate.longest} epochs at most"
            why = most if self.best.epochs >= self.best.candidate.longest else "fine-tuning does not fit"
            yield f"  {duration(left)} are left unused: {why}"


def make(
    facts: DatasetFacts,
    competition: Competition,
    measured: Sequence[MeasuredCandidate],
    seconds: float,
    curves: Curves,
    findings: Findings,
) -> Plan:
    """Return the plan for `seconds`. Raises UserError if no candidate fits."""
    context = PlanContext(facts, competition, seconds, curves, findings)
    options: list[Option] = []
    reasons: list[str] = []
    for one in measured:
        candidate = replace(one.candidate, fixed=(*one.candidate.fixed, *_fixed_by(findings, one.candidate)))
        option = _option(replace(one, candidate=candidate), context)
        if isinstance(option, Option):
            options.append(option)
        else:
            reasons.append(f"{candidate.title}: {option}")
    if not options:
        few = reasons[:4]
        few_seconds = f"planning left {duration(seconds)}, and nothing can be trained in that: give it twice the time"
        raise UserError("\n  ".join([few_seconds, *few]))

    def worth(option: Option) -> float:
        unknown = findings.scratch_unknown and not option.candidate.starts_published
        return option.forecast.low if unknown else option.forecast.value

    options.sort(key=lambda option: (-worth(option), option.timeline.total))
    return Plan(facts, seconds, options, reasons)


def _fixed_by(findings: Findings, candidate: Candidate) -> Iterator[str]:
    """Yield the settings that follow from what pilots showed."""
    if findings.unlike and candidate.starts_published:
        yield from BOLD
    if not findings.mirror:
        yield "image.mirror=false"


def parameters_within_limit(recipe: Recipe, competition: Competition, name: str) -> int | None:
    """Return the number of parameters of a recipe's network; None if it is over the limit."""
    weighed = budget.weigh(recipe, competition, name)
    return weighed.counted if weighed.within_limit else None


def _option(measured: MeasuredCandidate, context: PlanContext) -> Option | str:
    """Return the candidate with those test-time views that are worth their time; or the reason why none fits."""
    candidate = measured.candidate
    usual = candidate.one_epoch
    variants = [
        replace(measured, candidate=replace(candidate, fixed=(*candidate.fixed, *fewer)))
        for fewer in views.settings(usual, candidate.seen(context.competition))
    ]
    tried = [_with_views(variant, usual, context) for variant in variants]
    fitting = [option for option in tried if isinstance(option, Option)]
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
    probing, features = 0.0, 0
    if recipe.head.start == "probe":
        seen_twice = 2 if seen.image.mirror else 1
        features = seen_twice * facts.images * cost.features * 4  # bytes of float32
        fitting = findings.probe_seconds_per_row * rows_fitted(facts.images, seen_twice)
        probing = seen_twice * facts.images * cost.view * slowdown + fitting
    steps = max(1, facts.images // min(recipe.train.batch_size, facts.images))
    epoch = steps * cost.step * slowdown * EPOCH_FACTOR
    left = context.seconds * PLANNED_SHARE - measured.packing - after - probing - rest
    epochs = min(epochs_within(left, epoch, steps, evaluation), float(candidate.longest))
    least = min(SHORTEST_EPOCHS, ENOUGH_IMAGES / facts.images)
    suited = measured.with_enough_steps(facts.images, epochs)
    option = None if suited is measured else _with_views(suited, usual, context)
    if isinstance(option, Option):  # smaller batches take longer by the image
        return option
    if candidate.starts_published:
        least, tuned = 1.0, 1.0
        if recipe.head.start == "probe":
            least, tuned = 0.0, min(1.0, FEWEST_TUNED_IMAGES / facts.images)
        if 0 <= epochs < tuned:
            epochs = 0.0  # shorter fine-tuning was not measured: only a probe, if the recipe has one
    if epochs < least:
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
