"""Previews of a recipe before it is trained: its learning rate over the epochs, and its augmented images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from featherweight import plotting
from featherweight.augment.mixing import mix
from featherweight.augment.table import WHOLE
from featherweight.config import Competition, Recipe
from featherweight.data.parts import divide
from featherweight.runs.predictions import augmentations
from featherweight.runtime.device import make_runtime
from featherweight.runtime.rng import Draws, generator
from featherweight.training.batches import Batches
from featherweight.training.schedules import beginning, rate_factor

POINTS = 2000  # steps at which the rate is drawn


def schedule(recipe: Recipe, competition: Competition, path: Path) -> str:
    """Draw the recipe's learning rate by epoch into `path`, and return it as text for the terminal.

    The number of steps per epoch follows from the competition's images. A schedule that depends on the holdout is drawn
    as if that improved after every epoch.
    """
    batches = _batches(recipe, competition)
    begin = beginning(recipe, batches.steps_per_epoch)
    steps = sorted({round(place * (begin.total - 1) / POINTS) for place in range(POINTS + 1)})
    base = recipe.optimizer.arguments["lr"]
    rates = [base * rate_factor(recipe, replace(begin, step=step)) for step in steps]
    epochs = [step / begin.steps_per_epoch for step in steps]
    picture, axes = plotting.figure(1, 1)
    plotting.draw(axes[0, 0], {"": (epochs, rates)}, "epoch", "learning rate")
    axes[0, 0].set_title(f"{recipe.optimizer.name}, {recipe.schedule.name}", fontsize="medium")
    plotting.save(picture, path)
    return (
        f"{plotting.in_terminal(rates)}\n"
        f"{'':>10}0 to {begin.total / begin.steps_per_epoch:g} epochs of {begin.steps_per_epoch:,} steps"
    )


def augment(recipe: Recipe, competition: Competition, path: Path, rows: int = 12, columns: int = 12) -> str:
    """Draw one training image per row, unchanged and as the recipe's augmentation and mixing draw it, into `path`."""
    batches = _batches(recipe, competition)
    train, runtime = batches.pack, batches.runtime
    places = torch.randperm(len(train), generator=generator(recipe.seed, "sheet"))[:rows]
    images = runtime.images(torch.from_numpy(train.images[places.numpy()]))
    whole, frame = batches.images(places.numpy())
    drawn = [images]
    for epoch in range(columns - 1):
        random = Draws(generator(recipe.seed, "sheet", epoch), len(places), runtime.device, epoch=epoch, samples=places)
        random.frame, altered = frame, whole
        for operation in augmentations(recipe, competition):
            altered = operation(altered, random)
        altered, _ = mix(altered, torch.zeros(len(places), 1), random, recipe.mix)
        drawn.append(altered)
    cells = torch.stack(drawn, 1).flatten(0, 1).permute(0, 2, 3, 1)
    scale = max(1, round(48 / competition.image.size))
    plotting.sheet((cells.clamp(0, 1) * 255).round().byte().numpy(), columns, path, scale)
    names = [choice.name for choice in (*augmentations(recipe, competition), *recipe.mix)]
    return f"{len(places)} images, unchanged on the left, {columns - 1} draws each of: {', '.join(names) or 'nothing'}"


def _batches(recipe: Recipe, competition: Competition) -> Batches:
    """Return the training images in batches."""
    train = divide(recipe.split, competition, competition.load())[0]
    size, whole = recipe.train.batch_size, any(choice.name == WHOLE for choice in recipe.augment)
    return Batches(train, len(competition.classes), size, recipe.seed, make_runtime("cpu"), recipe.sampling, whole)
