"""What a run predicts of each part of the data: computed once, kept in its folder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.augment.table import MIRRORING
from featherweight.config import Competition, Recipe
from featherweight.console import Progress
from featherweight.data.pack import Pack
from featherweight.evaluation.calibration import temper
from featherweight.evaluation.inference import predict_probs
from featherweight.models import Classifier
from featherweight.runs.run_folder import Run
from featherweight.runtime.device import Runtime


def augmentations(recipe: Recipe, competition: Competition) -> list[Any]:
    """The recipe's augmentations, without mirroring where the competition forbids it."""
    return [choice for choice in recipe.augment if competition.image.mirror or choice.name not in MIRRORING]


def views(recipe: Recipe, competition: Competition) -> list[Any]:
    """The recipe's test-time views, without mirroring where the competition forbids it."""
    return [choice for choice in recipe.predict.views if competition.image.mirror or choice.name not in MIRRORING]


def probabilities(
    run: Run, part: str, model: Classifier, images: Pack, device: Runtime, plain: bool = False
) -> NDArray[np.float32]:
    """The model's probabilities for a part of the data, computed once and kept in the run's folder.

    They are by the recipe's views or, if `plain`, of the images as they are.
    """
    stored = run.folder / f"{part}_probs.npy"
    if not stored.exists():
        with Progress(f"predict {part}", len(images), "images") as bar:
            probs = predict_probs(
                [model],
                images.images,
                runtime=device,
                views=[] if plain else views(run.recipe, run.competition),
                augment=augmentations(run.recipe, run.competition),
                batch_size=run.recipe.predict.batch_size,
                seed=run.recipe.seed,
                advance=bar.advance,
            )
        buffer = io.BytesIO()
        np.save(buffer, probs)
        device.processes.once(lambda: atomic.write_bytes(stored, buffer.getvalue()))
    kept: NDArray[np.float32] = np.load(stored)
    return kept


def calibrated(run: Run, probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probabilities at the temperature fitted to the holdout, where the recipe asks for one."""
    return temper(probs, float(run.temperature.read_text())) if run.temperature.exists() else probs


def of_finished(run: Run, part: str) -> NDArray[np.float32]:
    """What a finished run says of a part of the data, calibrated as its own CSV is."""
    return calibrated(run, np.load(run.folder / f"{part}_probs.npy"))
