"""Fit a recipe into a notebook's time limit: time its steps there and train fewer epochs if needed."""

from __future__ import annotations

from collections.abc import Callable

from featherweight.config import Competition, Recipe
from featherweight.console import duration, say
from featherweight.data.pack import Data
from featherweight.data.parts import divide
from featherweight.errors import UserError, count_of
from featherweight.evaluation import tta
from featherweight.planning.costs import EPOCH_FACTOR, Cost, measure
from featherweight.planning.own_process import Failed
from featherweight.runs.predictions import views


def epochs_within(
    recipe: Recipe,
    competition: Competition,
    data: Data,
    left: Callable[[], float],
    timed: Callable[..., Cost] = measure,
) -> int:
    """Return how many of the recipe's epochs fit into the seconds `left` after timing, with evaluations of the holdout
    and predictions.

    `competition` is as the recipe sees it. Raises UserError if not one epoch fits, or the model does not fit into
    memory.
    """
    try:
        cost = timed(recipe, competition)
    except Failed as reason:
        raise UserError(f"the recipe cannot be trained in this notebook ({reason}); take a lighter one") from None
    train, holdout, _ = divide(recipe.split, competition, data)
    size = min(recipe.train.batch_size, len(train))
    steps = max(1, len(train) // size)
    evaluation = len(holdout) * cost.view
    epoch = EPOCH_FACTOR * steps * cost.step + evaluation / recipe.train.evaluate_every
    predicted = len(holdout) + (len(data.predict) if data.predict else 0)
    final = tta.count(views(recipe, competition)) * predicted * cost.view
    seconds = left()
    fit = int((seconds - final - evaluation) / epoch)
    whole = duration(recipe.train.epochs * epoch + final)
    what = f"{count_of(recipe.train.epochs, 'epoch')} of {count_of(steps, 'step')} and the predictions"
    say(f"{what}, about {whole}; there are {duration(seconds)}")
    if fit < 1:
        raise UserError(f"not one epoch fits: it takes {duration(epoch)}, the predictions {duration(final)}")
    if fit < recipe.train.epochs:
        say(f"that would not be done in time: training {count_of(fit, 'epoch')} of {recipe.train.epochs}")
    return min(fit, recipe.train.epochs)
