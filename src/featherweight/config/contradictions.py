"""Options of a recipe that take each other's meaning away: each is allowed, none does what was meant beside the other.

What cannot be trained at all the recipe refuses by itself. Here stand pairs that train, and say nothing: they are told
by `check` and before a training.
"""

from __future__ import annotations

from collections.abc import Callable

from featherweight.config.recipe import Recipe, Split
from featherweight.console import say

Rule = Callable[[Recipe], str]  # what is wrong; empty where nothing is


def contradictions(recipe: Recipe) -> list[str]:
    """What of a recipe is without effect, or is done twice, each in a sentence with the key to change."""
    return [note for rule in RULES if (note := rule(recipe))]


def say_contradictions(recipe: Recipe) -> None:
    """Tell them, a line each."""
    for note in contradictions(recipe):
        say(f"note: {note}")


def rare_classes_twice(recipe: Recipe) -> str:
    """Sampling and loss both make up for rare classes."""
    by_loss = recipe.loss.arguments.get("weights", "equal") != "equal" or recipe.loss.name == "logit_adjusted"
    if recipe.sampling.name == "each_once" or not by_loss:
        return ""
    return f"rare classes are made up for twice, by sampling {recipe.sampling.name} and by the loss: leave one out"


def averages_that_do_not_ship(recipe: Recipe) -> str:
    """Averages that only follow the weights, and do not ship."""
    idle = [each.name for each in recipe.averages if each.name in ("ema", "swa") and each.name != recipe.ship]
    if not idle:
        return ""
    return f"averages: {', '.join(idle)} is computed and does not ship: ship={idle[0]}, or leave it out"


def patience_beyond_the_end(recipe: Recipe) -> str:
    """Early stopping that cannot stop anything."""
    stopping, evaluations = recipe.early_stopping, recipe.train.epochs // recipe.train.evaluate_every
    if stopping is None or stopping.patience < evaluations:
        return ""
    return (
        f"early_stopping.patience={stopping.patience} never stops a run of {evaluations} evaluations "
        "(train.epochs, train.evaluate_every)"
    )


def stopped_before_the_rate_falls(recipe: Recipe) -> str:
    """A rate that falls until the end, and a run that is ended before."""
    falling = ("cosine", "linear", "one_cycle")
    if recipe.early_stopping is None or recipe.schedule.name not in falling:
        return ""
    return (
        f"early_stopping ends a run before schedule {recipe.schedule.name} has brought its rate down, where most is "
        "gained: take schedule plateau, or no early stopping"
    )


def views_of_nothing(recipe: Recipe) -> str:
    """Test-time views by augmentations that there are none of."""
    if recipe.augment or all(view.name != "train" for view in recipe.predict.views):
        return ""
    return "predict.views: train asks by the training augmentations, and augment is empty: every view is the same image"


def teachers_alone(recipe: Recipe) -> str:
    """What is said of the classes, where only teachers are listened to."""
    if recipe.distill is None or recipe.distill.weight < 1 or not recipe.loss.arguments.get("label_smoothing"):
        return ""
    return "distill.weight=1 listens to the teachers alone: the loss, with its label_smoothing, counts for nothing"


def deaf_to_mixing(recipe: Recipe) -> str:
    """Teachers that were asked of whole images, and images that are mixed."""
    if recipe.distill is None or not recipe.distill.once or not (recipe.mix or recipe.augment):
        return ""
    return (
        "distill.once teaches of the images as they are, and the student sees them augmented: once=false, or no augment"
    )


def held_out_twice(recipe: Recipe) -> str:
    """The part to hold out, where folds say it already."""
    if recipe.split.folds is None or recipe.split.holdout == Split.model_fields["holdout"].default:
        return ""
    return (
        f"split.holdout={recipe.split.holdout:g} is not used: with split.folds={recipe.split.folds} a fold is held out"
    )


RULES: tuple[Rule, ...] = (
    rare_classes_twice,
    averages_that_do_not_ship,
    patience_beyond_the_end,
    stopped_before_the_rate_falls,
    views_of_nothing,
    teachers_alone,
    deaf_to_mixing,
    held_out_twice,
)
