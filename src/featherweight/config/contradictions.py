"""Options of a recipe that take each other's meaning away: each is allowed, none does what was meant beside the other.

What cannot be trained at all the recipe refuses by itself. Here stand pairs that train, and say nothing: they are told
by `check` and before a training.
"""

from __future__ import annotations

from collections.abc import Callable

from featherweight.config.recipe import Recipe, Split, Warmup
from featherweight.console import say
from featherweight.models.custom import CustomModel
from featherweight.models.library import drops_paths
from featherweight.models.pretrained_weights import starts_pretrained
from featherweight.schema import Choice

Rule = Callable[[Recipe], str]  # what is wrong; empty where nothing is


def contradictions(recipe: Recipe) -> list[str]:
    """What of a recipe is without effect, or is done twice, each in a sentence with the key to change."""
    return [note for rule in RULES if (note := rule(recipe))]


def say_contradictions(recipe: Recipe) -> None:
    """Tell them, a line each."""
    for note in contradictions(recipe):
        say(f"note: {note}")


def rare_classes_balanced_twice(recipe: Recipe) -> str:
    """Sampling and loss both make up for rare classes."""
    by_loss = recipe.loss.arguments.get("weights", "equal") != "equal" or recipe.loss.name == "logit_adjusted"
    if recipe.sampling.name == "each_once" or not by_loss:
        return ""
    return f"rare classes are made up for twice, by sampling {recipe.sampling.name} and by the loss: leave one out"


def averages_not_shipped(recipe: Recipe) -> str:
    """Averages that only follow the weights, and do not ship."""
    idle = [each.name for each in recipe.averages if each.name in ("ema", "swa") and each.name != recipe.ship]
    if not idle:
        return ""
    return f"averages: {', '.join(idle)} is computed and does not ship: ship={idle[0]}, or leave it out"


def early_stopping_never_stops(recipe: Recipe) -> str:
    """Early stopping that cannot stop anything."""
    stopping, evaluations = recipe.early_stopping, _most_evaluations(recipe)
    if stopping is None or stopping.patience < evaluations:
        return ""
    return (
        f"early_stopping.patience={stopping.patience} never stops a run of {evaluations} evaluations "
        "(train.epochs, train.steps, train.evaluate_every)"
    )


def _most_evaluations(recipe: Recipe) -> int:
    """How often the holdout is scored at most: the last epoch always is, and an epoch has a step at least."""
    train = recipe.train
    return -(-min(train.epochs, train.steps or train.epochs) // train.evaluate_every)


def early_stopping_before_rate_falls(recipe: Recipe) -> str:
    """A rate that falls until the end, and a run that is ended before."""
    falling = ("cosine", "linear", "one_cycle")
    if recipe.early_stopping is None or recipe.schedule.name not in falling:
        return ""
    return (
        f"early_stopping ends a run before schedule {recipe.schedule.name} has brought its rate down, where most is "
        "gained: take schedule plateau, or no early stopping"
    )


def train_views_without_augment(recipe: Recipe) -> str:
    """Test-time views by augmentations that there are none of."""
    if recipe.augment or all(view.name != "train" for view in recipe.predict.views):
        return ""
    return "predict.views: train asks by the training augmentations, and augment is empty: every view is the same image"


def label_smoothing_without_labels(recipe: Recipe) -> str:
    """What is said of the classes, where only teachers are listened to."""
    if recipe.distill is None or recipe.distill.weight < 1 or not recipe.loss.arguments.get("label_smoothing"):
        return ""
    return "distill.weight=1 uses only the teachers: the loss, with its label_smoothing, has no effect"


def distill_once_with_augmentation(recipe: Recipe) -> str:
    """Teachers that were asked of whole images, and images that are mixed."""
    if recipe.distill is None or not recipe.distill.once or not (recipe.mix or recipe.augment):
        return ""
    return (
        "distill.once teaches of the images as they are, and the student sees them augmented: once=false, or no augment"
    )


def holdout_ignored_with_folds(recipe: Recipe) -> str:
    """The part to hold out, where folds say it already."""
    if recipe.split.folds is None or recipe.split.holdout == Split.model_fields["holdout"].default:
        return ""
    return (
        f"split.holdout={recipe.split.holdout:g} is not used: with split.folds={recipe.split.folds} a fold is held out"
    )


def milestones_after_end(recipe: Recipe) -> str:
    """A schedule whose cuts all lie beyond the end of the run."""
    name, evaluations = recipe.schedule.name, _most_evaluations(recipe)
    ends = {"epochs": recipe.train.epochs, "steps": recipe.train.steps, "evaluations": evaluations}
    key, first, unit = _first_change(recipe.schedule)
    end = ends.get(unit)
    if not end or first < end:
        return ""
    return (
        f"schedule.{key}: {name} never changes the rate in a run of {end:,} {unit}: take smaller numbers, or schedule "
        "constant"
    )


def _first_change(schedule: Choice) -> tuple[str, int, str]:
    """Which key says when a schedule first changes the rate, and after how many of what; 0 for a part of the run."""
    given = schedule.arguments
    if schedule.name == "milestones" and given["at"]:
        return "at", min(given["at"]), "epochs" if given["by"] == "epoch" else "steps"
    if schedule.name == "stepped" and given["epochs"] and not given["at"]:
        return "epochs", min(given["epochs"]), "epochs"
    if schedule.name == "every":
        return "epochs", given["epochs"], "epochs"
    if schedule.name == "staged" and len(given["stages"]) > 1:
        return "stages", given["stages"][0][0], "epochs"
    if schedule.name == "plateau":  # whose first evaluation is a best one
        return "patience", given["patience"] + 1, "evaluations"
    return "", 0, ""


def early_stopping_before_plateau(recipe: Recipe) -> str:
    """Early stopping that is less patient than the schedule."""
    stopping, schedule = recipe.early_stopping, recipe.schedule
    if stopping is None or schedule.name != "plateau" or stopping.patience > schedule.arguments["patience"]:
        return ""
    return (
        f"early_stopping.patience={stopping.patience} ends a run before schedule plateau, with patience "
        f"{schedule.arguments['patience']}, has cut its rate once: give the schedule less, or early stopping more"
    )


def warmup_twice(recipe: Recipe) -> str:
    """Two lengths of a warm-up, or two warm-ups."""
    warmup = recipe.warmup
    if warmup is not None and warmup.epochs is not None and warmup.fraction != Warmup.model_fields["fraction"].default:
        return (
            f"warmup.fraction={warmup.fraction:g} is not used: warmup.epochs={warmup.epochs:g} says how long it takes"
        )
    if warmup is not None and recipe.schedule.name == "one_cycle" and recipe.schedule.arguments["up"] > 0:
        return "warmup comes before schedule one_cycle, which rises by itself: leave warmup out, or schedule.up=0"
    return ""


def training_keys_without_epochs(recipe: Recipe) -> str:
    """What is done while training, where nothing but the probe is trained."""
    keys = ("distill", "sam", "mix", "progressive", "averages", "warmup")
    idle = [key for key in keys if getattr(recipe, key)]
    if recipe.train.epochs or not idle:
        return ""
    return f"train.epochs=0 trains nothing but the probe, so {', '.join(idle)} is without effect"


def head_keys_without_pretrained_weights(recipe: Recipe) -> str:
    """What is meant for pretrained weights, where all weights are random."""
    wanted = [
        key
        for key, there in (
            ("head.start=probe", recipe.head.start == "probe"),
            (f"head.epochs={recipe.head.epochs}", recipe.head.epochs > 0),
            ("train.freeze_norms", recipe.train.freeze_norms),
        )
        if there
    ]
    if not wanted or starts_pretrained(recipe.model) or isinstance(recipe.model, CustomModel):
        return ""
    keys = ", ".join(wanted)
    return f"{keys} is for pretrained weights, and this network's are random: model.pretrained, or leave it out"


def drop_connect_unsupported(recipe: Recipe) -> str:
    """A rate of drop path, in a network that has none."""
    model = recipe.model
    if model.name != "timm" or not model.arguments["drop_connect"] or drops_paths(model.arguments["variant"]):
        return ""
    return f"model.drop_connect is left out: timm's {model.arguments['variant']} takes no drop path"


def distill_weight_zero(recipe: Recipe) -> str:
    """Teachers that are asked, and count for nothing."""
    if recipe.distill is None or recipe.distill.weight > 0:
        return ""
    return "distill.weight=0 computes the teachers' answers and does not use them: leave distill out"


def mirrored_twice(recipe: Recipe) -> str:
    """Mirroring at random, which undoes mirroring by turns; and a view that is multiplied by itself."""
    augment, views = ([choice.name for choice in choices] for choices in (recipe.augment, recipe.predict.views))
    if {"flip", "alternating_flip"} <= set(augment):
        return "augment: flip mirrors at random what alternating_flip mirrors by turns: leave one out"
    twice = next((name for name in views if views.count(name) > 1), None)
    return f"predict.views: {twice} is there twice: it costs double and shows the same" if twice == "flip" else ""


def nesterov_without_momentum(recipe: Recipe) -> str:
    """What looks ahead along a momentum that there is not."""
    if recipe.optimizer.arguments.get("nesterov") and not recipe.optimizer.arguments["momentum"]:
        return "optimizer.nesterov looks ahead along the momentum, and optimizer.momentum is 0"
    return ""


def beta_unused(recipe: Recipe) -> str:
    """The parameter of weights that are not taken."""
    given = recipe.loss.arguments
    default = type(recipe.loss).model_fields["beta"].default if "beta" in given else None
    if "beta" not in given or given["beta"] == default or given["weights"] == "effective":
        return ""
    return f"loss.beta={given['beta']:g} is of loss.weights effective, and they are {given['weights']}"


RULES: tuple[Rule, ...] = (
    rare_classes_balanced_twice,
    averages_not_shipped,
    early_stopping_never_stops,
    early_stopping_before_rate_falls,
    train_views_without_augment,
    label_smoothing_without_labels,
    distill_once_with_augmentation,
    holdout_ignored_with_folds,
    milestones_after_end,
    early_stopping_before_plateau,
    warmup_twice,
    training_keys_without_epochs,
    head_keys_without_pretrained_weights,
    drop_connect_unsupported,
    distill_weight_zero,
    mirrored_twice,
    nesterov_without_momentum,
    beta_unused,
)
