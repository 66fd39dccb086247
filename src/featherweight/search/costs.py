"""Estimate the cost of a search: time some steps of its base recipe, and count the parameters of some candidates."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd

from featherweight import budget
from featherweight.config import Recipe
from featherweight.config.short_recipe import short_recipe
from featherweight.console import hushed
from featherweight.data import parts
from featherweight.data.pack import Data
from featherweight.errors import UserError, count_of
from featherweight.evaluation.inference import predict_probs
from featherweight.runs.request import cropped_as_published
from featherweight.search.trials import Search, trained
from featherweight.training.forecast import step_seconds

CANDIDATES_DRAWN = 16  # to see what the space contains
TIMED_STEPS = 4  # after as many untimed ones
TIMED_IMAGES = 512  # held-out images


@dataclass(frozen=True)
class Costs:
    """What a trial of the base recipe takes, and how the space's candidates compare with it.

    Attributes:
        epoch: seconds of training per epoch.
        evaluation: seconds of an evaluation on the holdout by one view.
        final: seconds of the final score, with the recipe's views.
        epochs: of a trial.
        every: epochs between evaluations.
        over: number of drawn candidates that are over the limit.
        drawn: number of candidates drawn.
        heaviest: the largest product of multiply-adds and epochs among the drawn ones, relative to the base.
    """

    epoch: float
    evaluation: float
    final: float
    epochs: int
    every: int
    over: int
    drawn: int
    heaviest: float

    @property
    def trial(self) -> float:
        """Seconds of a trial that is not stopped early."""
        return self.epochs * self.epoch + math.ceil(self.epochs / self.every) * self.evaluation + self.final

    def in_words(self, trials: int | None, hours: float | None) -> list[str]:
        """Return lines that say how long the search will take, or how many trials it will make."""
        lines = [
            f"a trial like the base: {count_of(self.epochs, 'epoch')} of "
            f"{_long(self.epoch + self.evaluation / self.every)} and the holdout's score, {_long(self.trial)} in all",
            f"of {self.drawn} candidates drawn at random, {self.over or 'none'} are over the limit; the most expensive "
            f"other one computes {self.heaviest:.1f} times as much as the base",
        ]
        worst = self.trial * self.heaviest
        if trials is not None:
            lines.append(f"{count_of(trials, 'trial')}: {_long(trials * self.trial)}, at worst {_long(trials * worst)}")
        if hours is not None:
            fit = f"about {hours * 3600 / self.trial:,.0f} trials, at worst {hours * 3600 / worst:,.0f}"
            lines.append(f"{hours:g} hours: {fit}; the last may end up to {_long(worst)} later")
        return [
            *lines,
            "less if trials are stopped early" if hours is None else "more if trials are stopped early",
        ]


def _long(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def costs(search: Search) -> Costs:
    """Time some steps of the base recipe, and check some candidates drawn at random."""
    recipe = search.space.recipe({})
    train, holdout, _ = parts.divide(recipe.split, search.competition, search.data)
    size = min(recipe.train.batch_size, len(train))
    share = min(1.0, TIMED_IMAGES / len(holdout))  # share of the holdout that is timed
    part = holdout.take(np.arange(math.ceil(share * len(holdout))))
    some = train.take(np.arange(min(len(train), TIMED_STEPS * size)))
    with hushed():  # cropped as a trial is, which otherwise loads all images again
        competition = search.competition.seen_by(cropped_as_published(recipe, search.competition))
    with tempfile.TemporaryDirectory() as folder:
        of_some = dataclasses.replace(search, competition=competition, data=Data(some, None, part))
        probe = trained(of_some, short_recipe(recipe, 2), Path(folder))
        history = pd.read_csv(Path(folder) / "history.csv")
    evaluation = _timed(lambda: predict_probs([probe.model], part.images, runtime=search.device))
    final = _timed(lambda: probe.metric_input(search.device))
    over, heaviest = _survey(search, recipe)
    return Costs(
        epoch=step_seconds(history) * (len(train) // size),
        evaluation=evaluation / share,
        final=final / share,
        epochs=recipe.train.epochs,
        every=recipe.train.evaluate_every,
        over=over,
        drawn=CANDIDATES_DRAWN,
        heaviest=heaviest,
    )


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _survey(search: Search, base: Recipe) -> tuple[int, float]:
    """Draw candidates at random; return how many are over the limit, and the relative cost of the most expensive other
    one.
    """
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(search.space.file.seed))
    one = budget.weigh(base, search.competition, "the base").macs * base.train.epochs
    over, heaviest = 0, 1.0
    known: dict[Hashable, budget.BudgetCheck] = {}
    for _ in range(CANDIDATES_DRAWN):
        try:
            recipe = search.space.recipe(search.space.draw(drawn.ask()))
            network = budget.network_of(recipe)
            if network not in known:
                known[network] = budget.weigh(recipe, search.competition, "a candidate")
        except UserError:
            continue
        weighed = known[network]
        if not weighed.within_limit:
            over += 1
        else:
            heaviest = max(heaviest, weighed.macs * recipe.train.epochs / max(one, 1))
    return over, heaviest
