"""A recipe cut to a few epochs, whose steps are timed before a long training is promised."""

from __future__ import annotations

import math
from typing import Any

from featherweight.config.recipe import Recipe, Split
from featherweight.training.head import Head


def short_recipe(recipe: Recipe, epochs: int) -> Recipe:
    """Return `recipe` with this many epochs, each of full training steps on all the images it is given.

    Left out is what a few epochs have no room for (the warmup, the first epochs of the classifier alone, early
    stopping, a length in steps) and what needs other runs (teachers, pseudo-labels). Only the end is evaluated.
    """
    train: dict[str, Any] = {
        "epochs": epochs,
        "steps": None,
        "shortened": [],
        "evaluate_every": epochs,
        "checkpoint_seconds": math.inf,
    }
    return recipe.model_copy(
        update={
            **dict.fromkeys(("warmup", "early_stopping", "distill", "pseudo")),
            "head": Head(),
            "split": Split(),
            "train": recipe.train.model_copy(update=train),
        }
    )
