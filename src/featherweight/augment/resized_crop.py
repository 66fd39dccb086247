"""Random resized crops, also of pictures of different sizes: each sample has its own box, resized to a square."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import Tensor

from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, Positive

TRIES = 10  # draws of a box, as torchvision's; then the largest central one is taken


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"expected two numbers above 0, the smaller first, got {pair[0]:g} and {pair[1]:g}")
    return pair


def random_resized_crop(
    images: Tensor,
    draws: Draws,
    *,
    scale: Annotated[tuple[Fraction, Fraction], AfterValidator(_rising)] = (0.35, 1.0),
    ratio: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (3 / 4, 4 / 3),
) -> Tensor:
    """Crop a random box and resize it to the square that the model takes, with antialiasing (arXiv:1409.4842).

    The fraction of the picture's area that the box covers is drawn between the two values of `scale`, its width divided
    by its height between those of `ratio`, as in torchvision's RandomResizedCrop. Where `image.store` keeps pictures
    larger and in their own aspect ratio, the box is drawn in the whole picture.
    """
    height, width = images.shape[-2:]
    extents = torch.tensor([[height, width]]).expand(len(images), 2) if draws.frame is None else draws.frame.extents
    side = height if draws.frame is None else draws.frame.side
    return cut(images, boxes(draws, extents, scale, ratio), side)


def boxes(draws: Draws, extents: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Return random boxes (top, left, height, width), int64 [B, 4], in pictures of `extents` (height, width) [B, 2].

    Of ten draws the first one that lies inside the picture is taken; if none does, the largest central box.
    """
    numbers = draws.on(torch.device("cpu")).uniform(TRIES, 4).double()
    height, width = extents.double()[:, None].unbind(-1)
    area = height * width * (scale[0] + numbers[..., 0] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    proportion = torch.exp(low + numbers[..., 1] * (high - low))
    wide, tall = (area * proportion).sqrt().round(), (area / proportion).sqrt().round()
    inside = (wide >= 1) & (tall >= 1) & (wide <= width) & (tall <= height)
    top, left = ((numbers[..., 2] * (height - tall + 1)).floor(), (numbers[..., 3] * (width - wide + 1)).floor())
    drawn = torch.stack([top, left, tall, wide], -1)
    first = inside.int().argmax(1)
    chosen = drawn[torch.arange(len(drawn)), first]
    return torch.where(inside.any(1)[:, None], chosen, _central(height[:, 0], width[:, 0], ratio)).long()


def _central(height: Tensor, width: Tensor, ratio: tuple[float, float]) -> Tensor:
    """Return the largest central boxes whose aspect ratio is allowed, float64 [B, 4]."""
    tall = torch.minimum(height, (width / ratio[0]).round())
    wide = torch.minimum(width, (height * ratio[1]).round())
    return torch.stack([((height - tall) / 2).floor(), ((width - wide) / 2).floor(), tall, wide], -1)


def cut(images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return boxes (top, left, height, width), int64 [B, 4], of images [B, C, H, W], resized to [B, C, side, side]."""
    done = [
        F.interpolate(
            image[None, :, top : top + height, left : left + width], (side, side), mode="bilinear", antialias=True
        )
        for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(done).contiguous(memory_format=torch.channels_last)
