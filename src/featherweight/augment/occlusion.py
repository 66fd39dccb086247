"""Parts of an image painted over: cutout and random erasing."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, Positive


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
