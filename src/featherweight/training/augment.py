"""The augmentations a recipe may list, in its order: pure functions on batches, on the device, a draw per sample.

Each takes images float32 [B, C, H, W] in [0, 1] and the batch's `Draws`, and returns images of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.randomness import Draws
from featherweight.schema import Fraction, Rate

Augmentation = Callable[[Tensor, Draws], Tensor]


def crop(
    images: Tensor, draws: Draws, *, padding: Rate = 0.125, fill: Literal["reflect", "zero"] = "reflect"
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


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "crop": crop,
    "flip": flip,
}

MIRRORING = ("flip",)  # left out where the competition says that a mirrored image may change its class
