"""Pillow's resizing as products of matrices, so that a graph of any format prepares a picture as the package does.

Torch's own resizing rounds once, ONNX's has another cubic kernel, and neither cuts boxes at fractions of a pixel.
Pillow resizes one direction, rounds to 8 bits, then the other, and so does this. What still differs is rounding: its
weights have 22 bits, some versions begin with the columns, and what is to become much smaller is averaged first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from featherweight.data.image import Image
from featherweight.data.photos import LONGEST

Kernel = Callable[[Tensor], Tensor]


def bilinear(t: Tensor) -> Tensor:
    """Return the bilinear weight at a distance of t pixels."""
    return (1 - t.abs()).clamp(min=0)


def bicubic(t: Tensor) -> Tensor:
    """Return the weight of Keys' cubic kernel with Pillow's a = -1/2."""
    t = t.abs()
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


KERNELS: dict[str, Kernel] = {"bilinear": bilinear, "bicubic": bicubic}


class Axis(NamedTuple):
    """One direction of a resize: the pixels from `first` to `last`, fractions allowed, become `count` new ones, the
    first of them at `offset`. Numbers are tensors, since a graph learns them with each picture.
    """

    first: Any
    last: Any
    count: Any
    offset: Any = 0.0


def resampled(x: Tensor, inside: tuple[Tensor, Tensor], axes: tuple[Axis, Axis], size: int, kernel: Kernel) -> Tensor:
    """Images [N, C, H, W] of whole numbers 0 to 255 as such of [size, size]; new pixels that no axis fills are 0.

    `inside` are the rows and columns that are part of the picture, as ones and after them zeros, [H] and [W].
    """
    down, across = (_weights(mask, axis, size, kernel) for mask, axis in zip(inside, axes, strict=True))
    return _eight_bits(down @ _eight_bits(x @ across.T))


def _weights(inside: Tensor, axis: Axis, size: int, kernel: Kernel) -> Tensor:
    """Return the weight of each pixel [n] in each new pixel, [size, n]."""
    new = torch.arange(size, device=inside.device, dtype=inside.dtype) + 0.5 - axis.offset
    scale = (axis.last - axis.first) / axis.count
    apart = (inside.cumsum(0) - 0.5)[None] - (axis.first + new * scale)[:, None]
    weights: Tensor = kernel(apart / scale.clamp(min=1)) * inside
    filled: Tensor = ((new > 0) & (new < axis.count)).to(inside.dtype)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-3)
    return weights * filled[:, None]


def _eight_bits(x: Tensor) -> Tensor:
    whole: Tensor = (x + 0.5).floor().clamp(0, 255)
    return whole  # torch's round would take halves to the even number


def prepared(x: Tensor, image: Image) -> Tensor:
    """Images [N, C, H, W] of whole numbers 0 to 255, of any height and width, as squares of `image.size` pixels, as
    they are scored: stretched, cropped, padded with black or, with `image.store`, the centre of the stored picture.
    """
    size, inside = image.size, (x.new_ones(x.shape[-2]), x.new_ones(x.shape[-1]))
    if image.store is not None:
        return _centre(x, inside, image)
    height, width = (mask.sum() for mask in inside)
    short, long = torch.minimum(height, width), torch.maximum(height, width)
    if image.fit == "crop":
        axes = [Axis((side - short) / 2, (side + short) / 2, size) for side in (height, width)]
    elif image.fit == "pad":
        counts = [(side / long * size).round() for side in (height, width)]
        axes = [Axis(0.0, side, n, ((size - n) / 2).round()) for side, n in zip((height, width), counts, strict=True)]
    else:
        axes = [Axis(0.0, side, size) for side in (height, width)]
    return resampled(x, inside, (axes[0], axes[1]), size, bilinear)


def _centre(x: Tensor, inside: tuple[Tensor, Tensor], image: Image) -> Tensor:
    """Return the centre crop of a picture, as `photos.shrunk` and `photos.Crop` make it."""
    assert image.store is not None
    height, width = (mask.sum() for mask in inside)
    short = torch.minimum(height, width)
    scale = (image.store / short).clamp(max=1)
    sides = [torch.minimum(side, LONGEST * short) for side in (height, width)]
    counts = [(side * scale).round().clamp(min=1) for side in sides]
    axes = [
        Axis((side - part) / 2, (side + part) / 2, count)
        for side, part, count in zip((height, width), sides, counts, strict=True)
    ]
    frame = LONGEST * image.store  # in which every stored picture has its place, at the top left
    x = resampled(x, inside, (axes[0], axes[1]), frame, bicubic)
    places = torch.arange(frame, device=x.device, dtype=x.dtype)
    inside = ((places < counts[0]).to(x.dtype), (places < counts[1]).to(x.dtype))
    shorter = int(image.size / image.crop + 1e-9)
    smaller = torch.minimum(counts[0], counts[1])
    crops = []
    for count in counts:
        resized = (shorter * count / smaller + 2e-4).floor()  # float32 may end just below a whole number
        start = ((resized - image.size) / 2).round()
        pixel = count / resized
        crops.append(Axis(start * pixel, (start + image.size) * pixel, image.size))
    return resampled(x, inside, (crops[0], crops[1]), image.size, KERNELS[image.interpolation])
