"""A plan: of the candidates that are measured, the one that is expected to score best in the time there is.

Everything that could be left out for lack of time is decided here, before training: the plan is a resolved recipe, and
the same recipe gives the same bytes whenever it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featherweight import atomic, budget, paths
from featherweight.config import Competition, Recipe, load_recipe, store
from featherweight.console import duration
from featherweight.errors import OverBudget, UserError
from featherweight.planning.candidates import Candidate
from featherweight.planning.costs import Cost
from featherweight.planning.curves import Curves, Forecast
from featherweight.planning.task import Task

MARGIN = 0.95  # of the time is planned for; the rest is for what a shared machine does meanwhile
REST = 12.0  # seconds for the start, the CSV and the report


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

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return self.recipe.train.epochs

    @property
    def line(self) -> str:
        """The option for the list of alternatives."""
        return (
            f"{self.candidate.name} at {self.candidate.size} px: {self.epochs} epochs in "
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

    def lines(self) -> list[str]:
        """The plan for people to argue with."""
        best = self.best
        recipe = best.recipe
        augment = ", ".join(choice.name for choice in recipe.augment) or "none"
        views = " x ".join(choice.name for choice in recipe.predict.views) or "none"
        said = [
            f"the task: {self.task}",
            f"the plan: {best.line}",
            f"  batches of {recipe.train.batch_size}, {recipe.optimizer.name} at {recipe.optimizer.lr:g}; "  # type: ignore[attr-defined]
            f"augmentation: {augment}; test-time views: {views}",
            f"  time: {best.timeline}; memory: {best.cost.memory / 1e9:.1f} GB",
        ]
        if len(self.options) > 1:
            said += ["instead of", *(f"  {option.line}" for option in self.options[1:])]
        return said + [f"  {reason}" for reason in self.refused]


def make(
    task: Task,
    competition: Competition,
    candidates: Sequence[Candidate],
    seconds: float,
    measure: Callable[[Recipe, Competition], Cost | None],
    curves: Curves,
) -> Plan:
    """The plan for what is left of the time. Raises UserError where no candidate gets through one epoch."""
    options: list[Option] = []
    refused: list[str] = []
    for candidate in candidates:
        found = _option(task, competition, candidate, seconds, measure, curves)
        if isinstance(found, Option):
            options.append(found)
        else:
            refused.append(f"{candidate.name} at {candidate.size} px: {found}")
    if not options:
        few = refused[:4]
        raise UserError("\n  ".join([f"nothing can be trained in {duration(seconds)}; give it more time", *few]))
    options.sort(key=lambda option: (-option.forecast.value, option.timeline.total))
    return Plan(task, seconds, options, refused)


def _option(
    task: Task,
    competition: Competition,
    candidate: Candidate,
    seconds: float,
    measure: Callable[[Recipe, Competition], Cost | None],
    curves: Curves,
) -> Option | str:
    """The candidate trained for as long as the time allows, or why that is impossible."""
    recipe = load_recipe(candidate.recipe, candidate.settings(1))
    seen = competition.seen_by(recipe)
    try:
        weighed = budget.weigh(recipe, seen, candidate.name)
        weighed.refuse_if_over()
    except OverBudget:
        return "over the limit"
    cost = measure(recipe, seen)
    if cost is None:
        return "too slow, or too large for the memory"
    views = _views(recipe, seen) * (task.holdout + task.predict) * cost.view
    steps = max(1, task.images // min(recipe.train.batch_size, task.images))
    epoch = steps * cost.step * 1.02  # what lies between the steps
    left = seconds * MARGIN - views - REST - 10 * task.holdout * cost.view
    epochs = min(int(left / epoch), candidate.longest)
    if epochs < 1:
        return f"an epoch takes {duration(epoch)}"
    whole = load_recipe(candidate.recipe, candidate.settings(epochs))
    training = epochs * epoch + min(epochs, 10) * task.holdout * cost.view
    forecast = curves.forecast(task, weighed.counted, epochs, candidate.size)
    return Option(candidate, whole, weighed.counted, cost, Timeline(0.0, training, views), forecast)


def _views(recipe: Recipe, competition: Competition) -> int:
    """How many times an image is predicted: the views of the recipe that the competition allows, multiplied."""
    counts = {"flip": 2, "shift": 3, "rotate": 3, "five_crops": 5}
    total = 1
    for view in recipe.predict.views:
        if view.name == "flip" and not competition.image.mirror:
            continue
        total *= counts.get(view.name, len(view.arguments.get("factors", [])) or view.arguments.get("count", 1))
    return total


def write(plan: Plan, name: str, competition: str) -> Path:
    """Store the plan's recipe as `plans/<competition>/<name>.yaml`, resolved."""
    path = paths.home() / "plans" / competition / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    store(plan.best.recipe, path)
    text = path.read_text()
    comments = "".join(f"# {line}\n" for line in plan.lines())
    atomic.write_text(path, comments + text)
    return path
