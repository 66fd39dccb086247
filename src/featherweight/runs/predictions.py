"""What a run predicts of each part of the data: computed once, stored in its folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import nn

from featherweight.augment.table import MIRRORING
from featherweight.config import Competition, Recipe
from featherweight.console import Progress, say
from featherweight.data.pack import LabelledPack, Pack
from featherweight.data.parts import predict_groups
from featherweight.errors import UserError
from featherweight.evaluation import unlabelled
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.calibration import temper_cross_fitted
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.unlabelled import DomainFeatures
from featherweight.models import Classifier
from featherweight.runs import stored_probs
from featherweight.runs.run import Run
from featherweight.runtime.device import Runtime
from featherweight.schema import Choice
from featherweight.training import probe

LEARNED_SAMPLE = 500  # training images on which the accuracy is measured


class InferenceOptions(TypedDict):
    """The keyword arguments of `predict_probs` that a recipe sets."""

    views: list[Choice]
    augment: list[Choice]
    batch_size: int
    seed: int
    several: bool


def augmentations(recipe: Recipe, competition: Competition) -> list[Choice]:
    """Return the recipe's augmentations, without mirroring if the competition forbids it."""
    return [choice for choice in recipe.augment if competition.image.mirror or choice.name not in MIRRORING]


def views(recipe: Recipe, competition: Competition) -> list[Choice]:
    """Return the recipe's test-time views, without mirroring if the competition forbids it."""
    return [choice for choice in recipe.predict.views if competition.image.mirror or choice.name not in MIRRORING]


def inference_options(recipe: Recipe, competition: Competition, *, plain: bool = False) -> InferenceOptions:
    """Return the keyword arguments with which `predict_probs` asks a model as its recipe says.

    `competition` is as the recipe sees it (`Competition.seen_by`). `plain` leaves the test-time views out.
    """
    return {
        "views": [] if plain else views(recipe, competition),
        "augment": augmentations(recipe, competition),
        "batch_size": recipe.predict.batch_size,
        "seed": recipe.seed,
        "several": competition.target == "several",
    }


def holdout_probs(
    recipe: Recipe,
    competition: Competition,
    model: Classifier,
    holdout: LabelledPack,
    device: Runtime,
    groups: Groups | None,
) -> NDArray[np.float32]:
    """Return a model's probabilities of labelled images, float32 [N, K], as a run's holdout is scored.

    They are by the recipe's views and, if it calibrates, at cross-fitted temperatures; `groups` as there.
    """
    probs = predict_probs([model], holdout.images, runtime=device, **inference_options(recipe, competition))
    return temper_cross_fitted(probs, holdout.labels, groups=groups) if recipe.predict.calibrate else probs


def probabilities(
    run: Run, part: str, model: Classifier, images: Pack, device: Runtime, plain: bool = False
) -> NDArray[np.float32]:
    """Return the model's own probabilities for a part of the data, float32 [N, K]; they are computed once and stored in
    the run's folder.

    They are by the recipe's views or, if `plain`, of the images as they are. Stored ones that are damaged, or of other
    images, are replaced.
    """
    device.processes.once(lambda: _delete_damaged(run, part))
    stored = stored_probs.read(run, part, images.ids, images.content)
    if stored is not None:
        return stored
    if stored_probs.path(run, part).exists():
        say(f"  {part}: these are other images than {run.name} has predicted; they are predicted from its weights")
    with Progress(f"predict {part}", len(images), "images") as bar:
        probs = _asked(run, model, images, device, plain, bar.advance)
    device.processes.once(lambda: stored_probs.store(run, part, probs, images.ids, images.content))
    return probs


def learned(run: Run, model: Classifier, train: LabelledPack, device: Runtime) -> float:
    """Return the accuracy on a sample of the training images, without views."""
    some = np.sort(np.random.default_rng(0).permutation(len(train))[:LEARNED_SAMPLE])
    probs = _asked(run, model, train.take(some), device, plain=True)
    return float((probs.argmax(1) == train.labels[some]).mean())


def _delete_damaged(run: Run, part: str) -> None:
    """Delete stored probabilities that cannot be read. Raises UserError for an ensemble's, which no model can make."""
    try:
        stored_probs.read(run, part)
    except UserError as error:
        if run.is_ensemble:
            raise
        say(f"{error.args[0].splitlines()[0]}; they are computed again from the weights")
        stored_probs.path(run, part).unlink()


def _asked(
    run: Run,
    model: Classifier,
    images: Pack,
    device: Runtime,
    plain: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    return predict_probs(
        [model],
        images.images,
        runtime=device,
        advance=advance,
        **inference_options(run.recipe, run.competition, plain=plain),
    )


def seen_as(
    competition: Competition, model: Classifier, holdout: LabelledPack, to_predict: Pack, device: Runtime
) -> DomainFeatures | None:
    """Return the classifier's input features for the holdout and for a sample of the images to predict.

    None for a network that does not end in a linear layer.
    """
    last = [module for module in model.net.modules() if isinstance(module, nn.Linear)]
    if not last:
        return None
    some = np.sort(np.random.default_rng(0).permutation(len(to_predict))[: unlabelled.MOST_IMAGES])
    held = probe.given_to(model, last[-1], holdout.images, False, device)
    predicted = to_predict.take(some)
    related = predict_groups(competition, predicted)
    return DomainFeatures(held, probe.given_to(model, last[-1], predicted.images, False, device), related)
