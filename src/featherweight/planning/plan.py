"""Plan a training: from the measured candidates, choose the one with the best expected score in the given time.

Everything that is left out for lack of time is decided here, before training. The plan is a recipe with every key,
which gives the same bytes whenever it is trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featherweight import budget
from featherweight.config import Competition, Recipe
from featherweight.console import duration
from featherweight.errors import UserError
from featherweight.evaluation.metrics import metric_of
from featherweight.planning.candidates import BOLD, Candidate
from featherweight.planning.costs import MeasuredCandidate
from featherweight.planning.curves import Curves
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.planning.option import PLANNED_SHARE, Findings, Option, PlanContext, fitted
from featherweight.training.deadline import Deadline
from featherweight.training.forecast import peak_memory

UNUSED_SHARE = 0.2  # of the time: if a plan leaves more than this, it says so


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
        option = fitted(one.also([*_fixed_by(findings, one.candidate), *_fixed_by_metric(competition)]), context)
        if isinstance(option, Option):
            options.append(option)
        else:
            reasons.append(f"{one.candidate.title}: {option}")
    if not options:
        few = reasons[:4]
        few_seconds = f"planning left {duration(seconds)}, and nothing can be trained in that: give it twice the time"
        raise UserError("\n  ".join([few_seconds, *few]))

    def unknown(option: Option) -> bool:
        return findings.scratch_unknown and not option.candidate.starts_published

    options.sort(key=lambda option: (unknown(option), -option.forecast.value, option.timeline.total))
    return Plan(facts, seconds, options, reasons)


def _fixed_by(findings: Findings, candidate: Candidate) -> Iterator[str]:
    """Yield the settings that follow from what pilots showed."""
    if findings.unlike and candidate.starts_published:
        yield from BOLD
    if not findings.mirror:
        yield "image.mirror=false"
    elif findings.upside_down:
        usual = [{"name": choice.name, **choice.arguments} for choice in candidate.one_epoch.augment]
        yield f"augment={json.dumps([*usual, {'name': 'vertical_flip'}])}"


def _fixed_by_metric(competition: Competition) -> Iterator[str]:
    """Yield the settings that follow from the metric: a loss of probabilities is lower if they are calibrated."""
    metric = metric_of(competition.metric)
    if metric.input_kind == "probabilities" and metric.lower_is_better:
        yield "predict.calibrate=true"


def parameters_within_limit(recipe: Recipe, competition: Competition, name: str) -> int | None:
    """Return the number of parameters of a recipe's network; None if it is over the limit."""
    weighed = budget.weigh(recipe, competition, name)
    return weighed.counted if weighed.within_limit else None
