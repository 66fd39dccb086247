"""What a run predicts of each part of the data: computed once, kept in its folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from featherweight.augment.table import MIRRORING
from featherweight.config import Competition, Recipe
from featherweight.console import Progress, say
from featherweight.data import kin, numbered_names
from featherweight.data.pack import Pack
from featherweight.evaluation import unlabelled
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.unlabelled import Features
from featherweight.models import Classifier
from featherweight.runs.run import Run
from featherweight.runtime.device import Runtime
from featherweight.training import probe

SOME = 1000  # images trained on that a network is asked of


def augmentations(recipe: Recipe, competition: Competition) -> list[Any]:
    """The recipe's augmentations, without mirroring where the competition forbids it."""
    return [choice for choice in recipe.augment if competition.image.mirror or choice.name not in MIRRORING]


def views(recipe: Recipe, competition: Competition) -> list[Any]:
    """The recipe's test-time views, without mirroring where the competition forbids it."""
    return [choice for choice in recipe.predict.views if competition.image.mirror or choice.name not in MIRRORING]


def probabilities(
    run: Run, part: str, model: Classifier, images: Pack, device: Runtime, plain: bool = False
) -> NDArray[np.float32]:
    """The model's own probabilities for a part of the data, computed once and kept in the run's folder.

    They are by the recipe's views or, if `plain`, of the images as they are. Those of other images are replaced.
    """
    stored = run.raw_probs(part, images.ids)
    if stored is not None:
        return stored
    if run.probs_file(part).exists():
        say(f"  {part}: these are other images than {run.name} has answered; it answers them from its weights")
    with Progress(f"predict {part}", len(images), "images") as bar:
        probs = _asked(run, model, images, device, plain, bar.advance)
    device.processes.once(lambda: run.store_probs(part, probs, images.ids))
    return probs


def learned(run: Run, model: Classifier, train: Pack, device: Runtime) -> float:
    """The part of the images trained on, of some of them, that are answered right by the run's views."""
    assert train.labels is not None
    some = np.sort(np.random.default_rng(0).permutation(len(train))[:SOME])
    probs = _asked(run, model, train.take(some), device)
    return float((probs.argmax(1) == train.labels[some]).mean())


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
        views=[] if plain else views(run.recipe, run.competition),
        augment=augmentations(run.recipe, run.competition),
        batch_size=run.recipe.predict.batch_size,
        seed=run.recipe.seed,
        several=run.competition.target == "several",
        advance=advance,
    )


def seen_as(
    competition: Competition, model: Classifier, holdout: Pack, to_predict: Pack, device: Runtime
) -> Features | None:
    """The features that the classifier is given of the holdout, and of some images to predict; which of these are kin.

    None for a network that does not end in a linear layer.
    """
    last = [module for module in model.net.modules() if isinstance(module, nn.Linear)]
    if not last:
        return None
    some = np.sort(np.random.default_rng(0).permutation(len(to_predict))[: unlabelled.MOST])
    held = probe.given_to(model, last[-1], holdout.images, False, device)
    predicted = to_predict.take(some)
    declared = None if competition.group is None else numbered_names.keys(predicted.ids, competition.group)
    related = kin.find(predicted, declared=declared).group
    return Features(held, probe.given_to(model, last[-1], predicted.images, False, device), related)
