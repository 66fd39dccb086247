"""Augmentations that move an image by whole pixels: crops and flips.

All take and return images float32 [B, C, H, W].
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, HalfFraction


def crop(
    images: Tensor, draws: Draws, *, padding: HalfFraction = 0.125, fill: Literal["reflect", "zero"] = "reflect"
) -> Tensor:
    """Pad each side by `padding` times its length (0.125: 4 pixels at 32), then crop to the original size at random."""
    side = images.shape[-1]
    pixels = round(side * padding)
    if pixels == 0:
        return images
    padded = F.pad(images, [pixels] * 4, mode="reflect" if fill == "reflect" else "constant")
    rows = draws.integers(2 * pixels + 1)[:, None] + torch.arange(images.shape[-2], device=images.device)
    columns = draws.integers(2 * pixels + 1)[:, None] + torch.arange(side, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # Indexing the channels-last view gathers whole pixels, and what comes out is channels-last again.
    cut = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def flip(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Flip an image horizontally, with `probability`.

    It is left out where the competition says that a mirrored image may be of another class.
    """
    return torch.where(draws.uniform(1, 1, 1) < probability, images.flip(-1), images)


def alternating_flip(images: Tensor, draws: Draws) -> Tensor:
    """Flip half of the images in even epochs, and the other half in odd ones (Jordan 2024).

    The halves are drawn once, so in any two epochs the model sees both versions of each image.
    """
    turns = (draws.samples * 2_654_435_761 >> 20) + draws.epoch  # the middle bits of a product scatter well
    mirrored = (turns % 2 == 0).to(images.device, non_blocking=True)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def vertical_flip(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Flip an image vertically, with `probability` (LOGBOOK A7)."""
    return torch.where(draws.uniform(1, 1, 1) < probability, images.flip(-2), images)
