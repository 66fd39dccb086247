"""A recipe made to fit the time that a notebook is given: its steps are timed there, and epochs left out if need be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from featherweight.config import Competition, Recipe
from featherweight.console import duration, say
from featherweight.data.pack import Data
from featherweight.data.parts import divide
from featherweight.errors import UserError
from featherweight.evaluation.tta import product
from featherweight.planning.costs import Cost, measure
from featherweight.planning.own_process import Failed
from featherweight.runs.predictions import views

BETWEEN = 1.05  # what lies between the steps of an epoch


def epochs_within(
    recipe: Recipe,
    competition: Competition,
    data: Data,
    left: Callable[[], float],
    timed: Callable[..., Cost] = measure,
) -> int:
    """How many of the recipe's epochs fit into the seconds that are `left` after they were timed, with evaluations of
    the holdout and predictions.

    `competition` is as the recipe sees it. Raises UserError where not one fits, or the model does not fit into memory.
    """
    try:
        cost = timed(recipe, competition)
    except Failed as reason:
        raise UserError(f"the recipe cannot be trained in this notebook ({reason}); take a lighter one") from None
    train, holdout, _ = divide(recipe.split, competition, data)
    size = min(recipe.train.batch_size, len(train))
    steps = max(1, len(train) // size)
    evaluation = len(holdout) * cost.view
    epoch = BETWEEN * steps * cost.step + evaluation / recipe.train.evaluate_every
    predicted = len(holdout) + (len(data.predict) if data.predict else 0)
    final = _passes(recipe, competition) * predicted * cost.view
    seconds = left()
    fit = int((seconds - final - evaluation) / epoch)
    whole = duration(recipe.train.epochs * epoch + final)
    what = f"{recipe.train.epochs} epochs of {steps:,} steps and the predictions"
    say(f"{what}, about {whole}; there are {duration(seconds)}")
    if fit < 1:
        raise UserError(f"not one epoch fits: it takes {duration(epoch)}, the predictions {duration(final)}")
    if fit < recipe.train.epochs:
        say(f"that would not be done in time: training {fit} epochs of {recipe.train.epochs}")
    return min(fit, recipe.train.epochs)


def _passes(recipe: Recipe, competition: Competition) -> int:
    """How many times the test-time views ask about an image."""
    image = torch.zeros(1, 1, competition.image.size, competition.image.size)
    chosen = [view for view in views(recipe, competition) if view.name != "train"]
    drawn = [view.arguments["count"] for view in views(recipe, competition) if view.name == "train"]
    nothing: Any = None  # no random numbers: what draws them is counted apart
    count = len(list(product(image, chosen, lambda number: nothing, ())))
    for each in drawn:
        count *= each
    return count
