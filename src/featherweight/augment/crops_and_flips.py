"""Where an image lies in its frame, in whole pixels: crops and mirrorings."""

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
    """Pad each side by `padding` of its length (0.125: 4 pixels at 32), then cut the original size out anywhere."""
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
    """Mirror left and right. Left out where the competition says that a mirrored image may change its class."""
    return torch.where(draws.uniform(1, 1, 1) < probability, images.flip(-1), images)


def alternating_flip(images: Tensor, draws: Draws) -> Tensor:
    """Mirror a half, chosen by chance once, in the even epochs and the other half in the odd ones (Jordan 2024)."""
    turns = (draws.samples * 2_654_435_761 >> 20) + draws.epoch  # the middle bits of a product scatter well
    mirrored = (turns % 2 == 0).to(images.device, non_blocking=True)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def vertical_flip(images: Tensor, draws: Draws, *, probability: Fraction = 0.5) -> Tensor:
    """Mirror top and bottom (LOGBOOK A7)."""
    return torch.where(draws.uniform(1, 1, 1) < probability, images.flip(-2), images)
