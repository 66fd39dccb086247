"""The augmentations a recipe may list, in its order: pure functions on batches, on the device, a draw per sample.

Each takes images float32 [B, C, H, W] in [0, 1] and the batch's `Draws`, and returns images of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.randomness import Draws
from featherweight.schema import Fraction, Part, Positive
from featherweight.training.colours import (
    autocontrast,
    blur,
    equalise,
    greyscale,
    jitter,
    noise,
    posterise,
    sharpness,
    solarise,
)
from featherweight.training.policies import auto_augment, rand_augment, trivial_augment
from featherweight.training.warps import affine, perspective, rotate

Augmentation = Callable[[Tensor, Draws], Tensor]


def crop(
    images: Tensor, draws: Draws, *, padding: Part = 0.125, fill: Literal["reflect", "zero"] = "reflect"
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


def cutout(images: Tensor, draws: Draws, *, size: Fraction = 0.5, fill: Fraction = 0.5) -> Tensor:
    """A square of the part `size` of the side painted in one grey, its centre anywhere (arXiv:1708.04552)."""
    height, width = images.shape[-2:]
    box = _box(draws.integers(height), draws.integers(width), round(size * height), round(size * width), images)
    return images.masked_fill(box[:, None], fill)


def erasing(
    images: Tensor,
    draws: Draws,
    *,
    probability: Fraction = 0.5,
    area: tuple[Fraction, Fraction] = (0.02, 0.33),
    ratio: tuple[Positive, Positive] = (0.3, 3.3),
    fill: Literal["zero", "noise"] = "zero",
) -> Tensor:
    """A rectangle of a part of the image's area, within it, painted black or with noise (arXiv:1708.04896)."""
    height, width = images.shape[-2:]
    pixels = (area[0] + draws.uniform() * (area[1] - area[0])) * height * width
    shape = torch.exp(math.log(ratio[0]) + draws.uniform() * math.log(ratio[1] / ratio[0]))
    tall = (pixels * shape).sqrt().round().clamp(1, height)
    wide = (pixels / shape).sqrt().round().clamp(1, width)
    top = (draws.uniform() * (height - tall + 1)).floor()
    left = (draws.uniform() * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)[None] - top[:, None]
    columns = torch.arange(width, device=images.device)[None] - left[:, None]
    box = ((rows >= 0) & (rows < tall[:, None]))[:, :, None] & ((columns >= 0) & (columns < wide[:, None]))[:, None, :]
    box = (box & (draws.uniform(1, 1) < probability))[:, None]
    painted = draws.uniform(*images.shape[1:]) if fill == "noise" else torch.zeros_like(images)
    return torch.where(box, painted, images)


def _box(rows: Tensor, columns: Tensor, tall: int, wide: int, images: Tensor) -> Tensor:
    """True [B, H, W] in a box around a centre, as far as it lies in the image."""
    down = torch.arange(images.shape[-2], device=images.device)[None] - (rows - tall // 2)[:, None]
    right = torch.arange(images.shape[-1], device=images.device)[None] - (columns - wide // 2)[:, None]
    return ((down >= 0) & (down < tall))[:, :, None] & ((right >= 0) & (right < wide))[:, None, :]


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "crop": crop,
    "flip": flip,
    "alternating_flip": alternating_flip,
    "vertical_flip": vertical_flip,
    "rotate": rotate,
    "affine": affine,
    "perspective": perspective,
    "jitter": jitter,
    "greyscale": greyscale,
    "blur": blur,
    "sharpness": sharpness,
    "posterise": posterise,
    "solarise": solarise,
    "equalise": equalise,
    "autocontrast": autocontrast,
    "noise": noise,
    "cutout": cutout,
    "erasing": erasing,
    "trivial_augment": trivial_augment,
    "rand_augment": rand_augment,
    "auto_augment": auto_augment,
}

# Left out where the competition says that a mirrored image may change its class.
MIRRORING = ("flip", "alternating_flip", "vertical_flip")
