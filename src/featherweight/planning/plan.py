"""A plan: of the candidates that are measured, the one that is expected to score best in the time there is.

Everything that could be left out for lack of time is decided here, before training: the plan is a resolved recipe, and
the same recipe gives the same bytes whenever it is run.
"""

from __future__ import annotations

import itertools
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
from featherweight.planning.costs import BETWEEN_STEPS, Cost, MeasuredCandidate
from featherweight.planning.curves import Curves, ScoreForecast
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.runs import predictions
from featherweight.schema import Choice
from featherweight.training.deadline import Deadline, evaluations
from featherweight.training.forecast import peak_memory
from featherweight.training.probe import rows_fitted

MARGIN = 0.95  # of the time is planned for; the rest is for what a shared machine does meanwhile
PROBE_SECONDS_PER_ROW = 1.5e-4  # seconds of a probe's regression for each row, where no pilot tells
FEW = 10  # epochs, of fewer of which the last is cut where the time ends
SHORTEST = 0.25  # epochs of a network from scratch; after fewer it has hardly seen the classes
REST = 12.0  # seconds for the start, the CSV and the report


@dataclass(frozen=True)
class Findings:
    """What pilots showed: may images be mirrored, are they unlike those that pretrained weights were trained on, how
    many times longer a step took than where it was timed, the seconds of a probe's regression for each row of features
    (see `rows_fitted`), and of which kinds (do they start from pretrained weights?) a pilot has not learned anything.
    """

    mirror: bool = True
    unlike: bool = False
    slowdown: float = 1.0
    probe_seconds_per_row: float = PROBE_SECONDS_PER_ROW
    at_chance: frozenset[bool] = frozenset()


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
    forecast: ScoreForecast
    mirror: bool
    epochs: float  # passes over the training images
    step: float  # seconds that a step is expected to take
    looking: float  # seconds that an evaluation of the holdout is expected to take
    by_size: int | None = None  # pixels, at which the network was timed in place of its own

    def seen(self, choices: Sequence[Choice]) -> list[Choice]:
        """Those of augmentations or views that are not left out for mirroring."""
        return [choice for choice in choices if self.mirror or choice.name not in MIRRORING]

    @property
    def line(self) -> str:
        """The option for the list of alternatives."""
        takes = f"{_length(self.epochs)} in {duration(self.timeline.total)}"
        takes += f" (by its time at {self.by_size} px)" if self.by_size else ""
        return f"{self.candidate.title}: {takes}, {self.parameters:,} parameters, expected {self.forecast}"


def _length(epochs: float) -> str:
    if epochs == 0:
        return "a linear probe"
    if epochs < 1:
        return f"{epochs:.2f} of an epoch"
    return "1 epoch" if round(epochs, 1) == 1 else f"{round(epochs, 1):g} epochs"


@dataclass(frozen=True)
class Plan:
    """The options that fit, the best first, why the others do not, and what pilots have `found`."""

    facts: DatasetFacts
    seconds: float
    options: Sequence[Option]
    refused: Sequence[str]
    found: Sequence[str] = ()

    @property
    def best(self) -> Option:
        """What is trained."""
        return self.options[0]

    def deadline(self, began: float, minutes: float) -> Deadline:
        """When its run is to end: some minutes after `began`, a reading of `time.monotonic`."""
        best = self.best
        after = best.timeline.views + best.timeline.rest
        return Deadline(began, minutes * 60, after, best.step, best.looking)

    def lines(self) -> list[str]:
        """The plan for people to argue with."""
        best = self.best
        recipe = best.recipe
        augment = ", ".join(choice.name for choice in best.seen(recipe.augment)) or "none"
        on_gpu = f", and {best.cost.on_gpu / 1e9:.1f} GB of the GPU's" if best.cost.on_gpu else ""
        views = " x ".join(choice.name for choice in best.seen(recipe.predict.views)) or "none"
        words = [
            f"the data: {self.facts}",
            f"the plan: {best.line}",
            f"  batches of {recipe.train.batch_size}, {recipe.optimizer.name} at {recipe.optimizer.lr:g}; "  # type: ignore[attr-defined]
            f"augmentation: {augment}; test-time views: {views}",
            f"  time: {best.timeline}; memory: {(peak_memory() + best.cost.memory) / 1e9:.1f} GB{on_gpu}",
            *(f"  {line}" for line in self.found),
        ]
        if len(self.options) > 1:
            words += ["instead of", *(f"  {option.line}" for option in self.options[1:])]
        return words + [f"  {reason}" for reason in self.refused]


def make(
    facts: DatasetFacts,
    competition: Competition,
    measured: Sequence[MeasuredCandidate],
    seconds: float,
    curves: Curves,
    findings: Findings,
) -> Plan:
    """The plan for what is left of the time. Raises UserError where no candidate gets through one epoch."""
    options: list[Option] = []
    reasons: list[str] = []
    for one in measured:
        candidate = replace(one.candidate, fixed=(*one.candidate.fixed, *_fixed_by(findings, one.candidate)))
        option = _option(facts, competition, replace(one, candidate=candidate), seconds, curves, findings)
        if isinstance(option, Option):
            options.append(option)
        else:
            reasons.append(f"{candidate.title}: {option}")
    if not options:
        few = reasons[:4]
        raise UserError("\n  ".join([f"nothing can be trained in {duration(seconds)}; give it more time", *few]))
    options.sort(key=lambda option: (-option.forecast.value, option.timeline.total))
    return Plan(facts, seconds, options, reasons)


def _fixed_by(findings: Findings, candidate: Candidate) -> Iterator[str]:
    """What is set because pilots showed it."""
    if findings.unlike and candidate.starts_published:
        yield from BOLD
    if not findings.mirror:
        yield "image.mirror=false"


def parameters_within_limit(recipe: Recipe, competition: Competition, name: str) -> int | None:
    """The parameters of a recipe's network; None where they are over the limit."""
    try:
        weight = budget.weigh(recipe, competition, name)
        weight.refuse_if_over()
    except OverBudget:
        return None
    return weight.counted


def _option(
    facts: DatasetFacts,
    competition: Competition,
    measured: MeasuredCandidate,
    seconds: float,
    curves: Curves,
    findings: Findings,
) -> Option | str:
    """The candidate trained for as long as the time allows, or why that is impossible."""
    candidate, cost, slowdown = measured.candidate, measured.cost, findings.slowdown
    recipe = load_recipe(candidate.recipe, candidate.settings(1))
    seen = competition.seen_by(recipe)
    views = tta.count(predictions.views(recipe, seen)) * (facts.holdout + facts.predict) * cost.view * slowdown
    looking = facts.holdout * cost.view * slowdown
    probing = 0.0
    if recipe.head.start == "probe":
        seen_twice = 2 if seen.image.mirror else 1
        probing = seen_twice * facts.images * cost.view * slowdown + findings.probe_seconds_per_row * rows_fitted(
            facts.images, seen_twice
        )
    steps = max(1, facts.images // min(recipe.train.batch_size, facts.images))
    epoch = steps * cost.step * slowdown * BETWEEN_STEPS
    left = seconds * MARGIN - measured.packing - views - probing - REST
    epochs = min(_epochs_within(left, epoch, steps, looking), float(candidate.longest))
    if candidate.starts_published and 0 <= epochs < 1:
        epochs = 0.0  # shorter fine-tunings were not measured: a probe alone, where the recipe has one
    least = SHORTEST if not candidate.starts_published else 0.0 if recipe.head.start == "probe" else 1.0
    if epochs < least:
        return f"an epoch takes {duration(epoch)}, and {duration(max(left, 0))} are left for it"
    begun = math.ceil(epochs)
    cut = [] if epochs == begun else [f"train.steps={round(epochs * steps)}"]
    whole = load_recipe(candidate.recipe, [*candidate.settings(begun), *cut])
    looks = max(1, evaluations(0, begun, whole.train.evaluate_every))
    training = probing + epochs * epoch + looks * looking
    even = curves.forecast(facts, measured.parameters, epochs, candidate.size, candidate.starts_published)
    return Option(
        candidate,
        whole,
        measured.parameters,
        cost,
        Timeline(measured.packing, training, views),
        _for_these_classes(even, facts, candidate.starts_published in findings.at_chance),
        seen.image.mirror,
        epochs,
        cost.step * slowdown,
        looking,
        measured.by_size,
    )


def _epochs_within(seconds: float, epoch: float, steps: int, looking: float) -> float:
    """Return how many epochs of `epoch` seconds and `steps` steps fit into `seconds`; below 0 where nothing does.

    Of fewer than FEW the last may be cut at a step. An evaluation of `looking` seconds follows each epoch, cut or
    whole, but at most ten are made (see `Candidate.settings`).
    """
    whole = math.floor((seconds - FEW * looking) / epoch)
    if whole >= FEW:
        return float(whole)
    fitting = ((begun, math.floor((seconds - begun * looking) / epoch * steps) / steps) for begun in range(1, FEW + 1))
    return max(min(begun, epochs) for begun, epochs in fitting)


def _for_these_classes(even: ScoreForecast, facts: DatasetFacts, at_chance: bool) -> ScoreForecast:
    """Return the forecast for the class frequencies of this data, given that for even ones (`DatasetFacts.unevenness`).

    No network is expected to do worse than who always says the most frequent class. Where a pilot did no better, this
    network may not either: its range begins there, and its score is the middle between that and what other data sets
    let expect.
    """
    value, low, high = (1 - facts.unevenness * (1 - score) for score in (even.value, even.low, even.high))
    guessed = 1 - facts.chance
    if not facts.several:  # of sets of classes none is guessed
        value, low, high = max(value, guessed), max(low, guessed), max(high, guessed)
    return ScoreForecast((guessed + value) / 2, guessed, high) if at_chance else ScoreForecast(value, low, high)


def write(plan: Plan, name: str, competition: str) -> Path:
    """Store the plan's recipe as `plans/<competition>/<name>.yaml`, resolved; with a number, where another one is there
    already.
    """
    folder = paths.home() / "plans" / competition
    names = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
    path = next(path for each in names if _is_free(path := folder / f"{each}.yaml", plan.best.recipe))
    folder.mkdir(parents=True, exist_ok=True)
    store(plan.best.recipe, path)
    text = path.read_text()
    comments = "".join(f"# {line}\n" for line in plan.lines())
    atomic.write_text(path, comments + text)
    return path


def _is_free(path: Path, recipe: Recipe) -> bool:
    """May the recipe be stored there: is nothing there, or the same recipe?"""
    if not path.exists():
        return True
    try:
        return load_recipe(str(path)) == recipe
    except UserError:  # changed by somebody, or of another version
        return False
