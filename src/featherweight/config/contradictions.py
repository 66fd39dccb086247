"""Combinations of options in which one has no effect, or the effect is applied twice.

A recipe that cannot be trained is refused when it is read. The combinations here can be trained, but are probably
mistakes: `check` and every training print a note about them.
"""

from __future__ import annotations

from collections.abc import Callable

from featherweight.config.recipe import Recipe, Split, Warmup
from featherweight.console import say
from featherweight.models.custom import CustomModel
from featherweight.models.library import drops_paths
from featherweight.models.pretrained_weights import starts_pretrained
from featherweight.schema import Choice

Rule = Callable[[Recipe], str]  # the note, or an empty string


def contradictions(recipe: Recipe) -> list[str]:
    """Return one sentence per contradiction in the recipe, with the key to change."""
    return [note for rule in RULES if (note := rule(recipe))]


def say_contradictions(recipe: Recipe) -> None:
    """Print one line per contradiction."""
    for note in contradictions(recipe):
        say(f"note: {note}")


def rare_classes_balanced_twice(recipe: Recipe) -> str:
    """Both sampling and loss compensate for rare classes."""
    by_loss = recipe.loss.arguments.get("weights", "equal") != "equal" or recipe.loss.name == "logit_adjusted"
    if recipe.sampling.name == "each_once" or not by_loss:
        return ""
    return f"rare classes are compensated twice, by sampling {recipe.sampling.name} and by the loss: remove one"


def averages_not_shipped(recipe: Recipe) -> str:
    """An average of the weights is computed, but is not the final model."""
    idle = [each.name for each in recipe.averages if each.name in ("ema", "swa") and each.name != recipe.ship]
    if not idle:
        return ""
    return f"averages: {', '.join(idle)} is computed but not used: set ship={idle[0]}, or remove it"


def early_stopping_never_stops(recipe: Recipe) -> str:
    """The patience is at least the number of evaluations."""
    stopping, evaluations = recipe.early_stopping, _most_evaluations(recipe)
    if stopping is None or stopping.patience < evaluations:
        return ""
    return (
        f"early_stopping.patience={stopping.patience} never stops a run of {evaluations} evaluations "
        "(train.epochs, train.steps, train.evaluate_every)"
    )


def _most_evaluations(recipe: Recipe) -> int:
    """Return the maximum number of evaluations: an epoch has a step or more, and the last one is evaluated."""
    train = recipe.train
    return -(-min(train.epochs, train.steps or train.epochs) // train.evaluate_every)


def early_stopping_before_rate_falls(recipe: Recipe) -> str:
    """Early stopping ends a run before the schedule has lowered the learning rate."""
    falling = ("cosine", "linear", "one_cycle")
    if recipe.early_stopping is None or recipe.schedule.name not in falling:
        return ""
    return (
        f"early_stopping ends a run before schedule {recipe.schedule.name} has lowered the rate, when most is "
        "gained: use schedule plateau, or no early stopping"
    )


def train_views_without_augment(recipe: Recipe) -> str:
    """Test-time views by training augmentations, of which there are none."""
    if recipe.augment or all(view.name != "train" for view in recipe.predict.views):
        return ""
    return "predict.views: train uses the training augmentations, but augment is empty: every view is the same image"


def label_smoothing_without_labels(recipe: Recipe) -> str:
    """Label smoothing, while only the teachers count."""
    if recipe.distill is None or recipe.distill.weight < 1 or not recipe.loss.arguments.get("label_smoothing"):
        return ""
    return "distill.weight=1 uses only the teachers: loss.label_smoothing has no effect"


def distill_once_with_augmentation(recipe: Recipe) -> str:
    """The teachers predict unaugmented images, the student sees augmented ones."""
    if recipe.distill is None or not recipe.distill.once or not (recipe.mix or recipe.augment):
        return ""
    return (
        "with distill.once the teachers predict unaugmented images, but the student sees augmented ones: set "
        "distill.once=false, or remove augment and mix"
    )


def holdout_ignored_with_folds(recipe: Recipe) -> str:
    """A size of the holdout, while the folds decide what is held out."""
    if recipe.split.folds is None or recipe.split.holdout == Split.model_fields["holdout"].default:
        return ""
    return (
        f"split.holdout={recipe.split.holdout:g} is ignored: with split.folds={recipe.split.folds} one fold is held out"
    )


def milestones_after_end(recipe: Recipe) -> str:
    """The schedule first changes the rate after the end of the run."""
    name, evaluations = recipe.schedule.name, _most_evaluations(recipe)
    ends = {"epochs": recipe.train.epochs, "steps": recipe.train.steps, "evaluations": evaluations}
    key, first, unit = _first_change(recipe.schedule)
    end = ends.get(unit)
    if not end or first < end:
        return ""
    return (
        f"schedule.{key}: {name} never changes the rate in a run of {end:,} {unit}: use smaller numbers, or schedule "
        "constant"
    )


def _first_change(schedule: Choice) -> tuple[str, int, str]:
    """Return the key that says when a schedule first changes the rate, the number, and its unit (0: a fraction of the
    run).
    """
    given = schedule.arguments
    if schedule.name == "milestones" and given["at"]:
        return "at", min(given["at"]), "epochs" if given["by"] == "epoch" else "steps"
    if schedule.name == "stepped" and given["epochs"] and not given["at"]:
        return "epochs", min(given["epochs"]), "epochs"
    if schedule.name == "every":
        return "epochs", given["epochs"], "epochs"
    if schedule.name == "staged" and len(given["stages"]) > 1:
        return "stages", given["stages"][0][0], "epochs"
    if schedule.name == "plateau":  # the first evaluation is always a new best
        return "patience", given["patience"] + 1, "evaluations"
    return "", 0, ""


def early_stopping_before_plateau(recipe: Recipe) -> str:
    """Early stopping is no more patient than the plateau schedule."""
    stopping, schedule = recipe.early_stopping, recipe.schedule
    if stopping is None or schedule.name != "plateau" or stopping.patience > schedule.arguments["patience"]:
        return ""
    return (
        f"early_stopping.patience={stopping.patience} ends a run before schedule plateau, with patience "
        f"{schedule.arguments['patience']}, has lowered the rate: reduce the schedule's patience, or increase this one"
    )


def warmup_twice(recipe: Recipe) -> str:
    """Two lengths of a warm-up, or two warm-ups."""
    warmup = recipe.warmup
    if warmup is not None and warmup.epochs is not None and warmup.fraction != Warmup.model_fields["fraction"].default:
        return f"warmup.fraction={warmup.fraction:g} is ignored: warmup.epochs={warmup.epochs:g} sets the length"
    if warmup is not None and recipe.schedule.name == "one_cycle" and recipe.schedule.arguments["up"] > 0:
        return "warmup is used before schedule one_cycle, which has its own rise: remove warmup, or set schedule.up=0"
    return ""


def training_keys_without_epochs(recipe: Recipe) -> str:
    """Options of the training, while only the linear probe is trained."""
    keys = ("distill", "sam", "mix", "progressive", "averages", "warmup")
    idle = [key for key in keys if getattr(recipe, key)]
    if recipe.train.epochs or not idle:
        return ""
    return f"train.epochs=0 trains only the linear probe, so {', '.join(idle)} has no effect"


def head_keys_without_pretrained_weights(recipe: Recipe) -> str:
    """Options for pretrained weights, while all weights are random."""
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
    return f"{keys} is for pretrained weights, but this network starts at random: set model.pretrained, or remove it"


def drop_connect_unsupported(recipe: Recipe) -> str:
    """A drop path rate for a network that has no drop path."""
    model = recipe.model
    if model.name != "timm" or not model.arguments["drop_connect"] or drops_paths(model.arguments["variant"]):
        return ""
    return f"model.drop_connect is ignored: timm's {model.arguments['variant']} has no drop path"


def distill_weight_zero(recipe: Recipe) -> str:
    """Teachers whose predictions do not count."""
    if recipe.distill is None or recipe.distill.weight > 0:
        return ""
    return "distill.weight=0 computes the teachers' predictions but does not use them: remove distill"


def mirrored_twice(recipe: Recipe) -> str:
    """Random mirroring, which undoes alternating mirroring; or the view `flip` twice."""
    augment, views = ([choice.name for choice in choices] for choices in (recipe.augment, recipe.predict.views))
    if {"flip", "alternating_flip"} <= set(augment):
        return "augment: flip undoes alternating_flip at random: remove one of them"
    twice = next((name for name in views if views.count(name) > 1), None)
    return (
        f"predict.views: {twice} is listed twice: it costs twice the time and changes nothing"
        if twice == "flip"
        else ""
    )


def nesterov_without_momentum(recipe: Recipe) -> str:
    """Nesterov momentum with a momentum of 0."""
    if recipe.optimizer.arguments.get("nesterov") and not recipe.optimizer.arguments["momentum"]:
        return "optimizer.nesterov needs a momentum, but optimizer.momentum is 0"
    return ""


def beta_unused(recipe: Recipe) -> str:
    """The parameter of class weights that are not used."""
    given = recipe.loss.arguments
    default = type(recipe.loss).model_fields["beta"].default if "beta" in given else None
    if "beta" not in given or given["beta"] == default or given["weights"] == "effective":
        return ""
    return f"loss.beta={given['beta']:g} is only used with loss.weights=effective, but it is {given['weights']}"


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
