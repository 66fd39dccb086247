"""Augmentations that paint over a part of an image: cutout and random erasing."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, Positive


def cutout(images: Tensor, draws: Draws, *, size: Fraction = 0.5, fill: Fraction = 0.5) -> Tensor:
    """Paint a square grey (arXiv:1708.04552).

    Its side is `size` times the image's, its centre is drawn anywhere in the image, and it is cut off at the edges.
    `fill` is the grey value, from 0 (black) to 1.
    """
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
    """Paint a rectangle inside the image black or with noise, with `probability` (arXiv:1708.04896).

    The fraction of the image that it covers is drawn between the two values of `area`, and its height divided by its
    width between those of `ratio`.
    """
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
    """Return True [B, H, W] in boxes of `tall` x `wide` pixels around centres (rows [B], columns [B])."""
    down = torch.arange(images.shape[-2], device=images.device)[None] - (rows - tall // 2)[:, None]
    right = torch.arange(images.shape[-1], device=images.device)[None] - (columns - wide // 2)[:, None]
    return ((down >= 0) & (down < tall))[:, :, None] & ((right >= 0) & (right < wide))[:, None, :]
