"""A plan: of the candidates that are measured, the one that is expected to score best in the time there is.

Everything that could be left out for lack of time is decided here, before training: the plan is a resolved recipe, and
the same recipe gives the same bytes whenever it is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featherweight import atomic, budget, paths
from featherweight.augment.table import MIRRORING
from featherweight.config import Competition, Recipe, load_recipe, store
from featherweight.console import duration
from featherweight.errors import OverBudget, UserError
from featherweight.evaluation import tta
from featherweight.planning.candidates import BOLD, Candidate
from featherweight.planning.costs import Cost, Measured
from featherweight.planning.curves import Curves, Forecast
from featherweight.planning.packing_time import packing_seconds
from featherweight.planning.task import Task
from featherweight.runs import predictions
from featherweight.schema import Choice
from featherweight.training.deadline import Deadline
from featherweight.training.forecast import peak_memory

MARGIN = 0.95  # of the time is planned for; the rest is for what a shared machine does meanwhile
FEW = 10  # epochs, of fewer of which the last is cut where the time ends
REST = 12.0  # seconds for the start, the CSV and the report


@dataclass(frozen=True)
class Findings:
    """What pilots showed: may images be mirrored, are they unlike those that
    pretrained weights were trained on, how many times longer a step took than where it was timed, and the seconds that
    a probe took for each image.
    """

    mirror: bool = True
    unlike: bool = False
    slow: float = 1.0
    start: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """Where the seconds of a run go."""

    packing: float
    training: float
    views: float
    rest: float = REST

    @property
    def total(self) -> float:
        """All of them."""
        return self.packing + self.training + self.views + self.rest

    def __str__(self) -> str:
        parts = {"packing": self.packing, "training": self.training, "views": self.views, "the rest": self.rest}
        return ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds >= 0.5)


@dataclass(frozen=True)
class Option:
    """A candidate that fits into the time: its recipe, what it costs, and what it is expected to score."""

    candidate: Candidate
    recipe: Recipe
    parameters: int
    cost: Cost
    timeline: Timeline
    forecast: Forecast
    mirror: bool
    epochs: float  # passes over the training images
    step: float  # seconds that a step is expected to take

    def seen(self, choices: Sequence[Choice]) -> list[Choice]:
        """Those of augmentations or views that are not left out for mirroring."""
        return [choice for choice in choices if self.mirror or choice.name not in MIRRORING]

    @property
    def line(self) -> str:
        """The option for the list of alternatives."""
        return (
            f"{self.candidate.title}: {f'{round(self.epochs, 1):g} epochs' if self.epochs else 'a linear probe'} in "
            f"{duration(self.timeline.total)}, {self.parameters:,} parameters, expected {self.forecast}"
        )


@dataclass(frozen=True)
class Plan:
    """The options that fit, the best first, and why the others do not."""

    task: Task
    seconds: float
    options: Sequence[Option]
    refused: Sequence[str]

    @property
    def best(self) -> Option:
        """What is trained."""
        return self.options[0]

    def deadline(self, began: float, minutes: float) -> Deadline:
        """When its run is to end: some minutes after `began`, a reading of `time.monotonic`."""
        best = self.best
        return Deadline(began, minutes * 60, best.timeline.views + best.timeline.rest, best.step)

    def lines(self) -> list[str]:
        """The plan for people to argue with."""
        best = self.best
        recipe = best.recipe
        augment = ", ".join(choice.name for choice in best.seen(recipe.augment)) or "none"
        views = " x ".join(choice.name for choice in best.seen(recipe.predict.views)) or "none"
        words = [
            f"the task: {self.task}",
            f"the plan: {best.line}",
            f"  batches of {recipe.train.batch_size}, {recipe.optimizer.name} at {recipe.optimizer.lr:g}; "  # type: ignore[attr-defined]
            f"augmentation: {augment}; test-time views: {views}",
            f"  time: {best.timeline}; memory: {(peak_memory() + best.cost.memory) / 1e9:.1f} GB",
        ]
        if len(self.options) > 1:
            words += ["instead of", *(f"  {option.line}" for option in self.options[1:])]
        return words + [f"  {reason}" for reason in self.refused]


def make(
    task: Task,
    competition: Competition,
    measured: Sequence[Measured],
    seconds: float,
    curves: Curves,
    findings: Findings,
) -> Plan:
    """The plan for what is left of the time. Raises UserError where no candidate gets through one epoch."""
    options: list[Option] = []
    reasons: list[str] = []
    for one in measured:
        candidate = replace(one.candidate, fixed=(*one.candidate.fixed, *_fixed_by(findings, one.candidate)))
        option = _option(task, competition, replace(one, candidate=candidate), seconds, curves, findings)
        if isinstance(option, Option):
            options.append(option)
        else:
            reasons.append(f"{candidate.title}: {option}")
    if not options:
        few = reasons[:4]
        raise UserError("\n  ".join([f"nothing can be trained in {duration(seconds)}; give it more time", *few]))
    options.sort(key=lambda option: (-option.forecast.value, option.timeline.total))
    return Plan(task, seconds, options, reasons)


def _fixed_by(findings: Findings, candidate: Candidate) -> Iterator[str]:
    """What is set because pilots showed it."""
    if findings.unlike and candidate.starts_published:
        yield from BOLD
    if not findings.mirror:
        yield "image.mirror=false"


def weighed(recipe: Recipe, competition: Competition, name: str) -> int | None:
    """The parameters of a recipe's network; None where they are over the limit."""
    try:
        weight = budget.weigh(recipe, competition, name)
        weight.refuse_if_over()
    except OverBudget:
        return None
    return weight.counted


def _option(
    task: Task,
    competition: Competition,
    measured: Measured,
    seconds: float,
    curves: Curves,
    findings: Findings,
) -> Option | str:
    """The candidate trained for as long as the time allows, or why that is impossible."""
    candidate, cost, slow = measured.candidate, measured.cost, findings.slow
    recipe = load_recipe(candidate.recipe, candidate.settings(1))
    seen = competition.seen_by(recipe)
    packing = packing_seconds(seen)
    views = tta.count(predictions.views(recipe, seen)) * (task.holdout + task.predict) * cost.view * slow
    looking = task.holdout * cost.view * slow
    probing, least = 0.0, 1
    if recipe.head.start == "probe":
        least = 0
        probing = task.images * max(findings.start, cost.view * slow) * (2 if seen.image.mirror else 1)
    steps = max(1, task.images // min(recipe.train.batch_size, task.images))
    epoch = steps * cost.step * slow * 1.02  # what lies between the steps
    left = seconds * MARGIN - packing - views - probing - REST - 10 * looking
    epochs = float(min(math.floor(left / epoch), candidate.longest))  # below 0 where a probe alone takes too long
    if 1 <= epochs < FEW:
        epochs = min(math.floor(left / epoch * steps) / steps, candidate.longest)  # not whole ones
    if epochs < least:
        return f"an epoch takes {duration(epoch)}, and {duration(max(left, 0))} are left for it"
    begun = math.ceil(epochs)
    cut = [] if epochs == begun else [f"train.steps={round(epochs * steps)}"]
    whole = load_recipe(candidate.recipe, [*candidate.settings(begun), *cut])
    training = probing + epochs * epoch + max(1, min(begun, 10)) * looking
    forecast = curves.forecast(task, measured.parameters, epochs, candidate.size, candidate.starts_published)
    timeline = Timeline(packing, training, views)
    return Option(
        candidate, whole, measured.parameters, cost, timeline, forecast, seen.image.mirror, epochs, cost.step * slow
    )


def write(plan: Plan, name: str, competition: str) -> Path:
    """Store the plan's recipe as `plans/<competition>/<name>.yaml`, resolved."""
    path = paths.home() / "plans" / competition / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    store(plan.best.recipe, path)
    text = path.read_text()
    comments = "".join(f"# {line}\n" for line in plan.lines())
    atomic.write_text(path, comments + text)
    return path
