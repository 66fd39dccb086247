"""Augmentations that move pixels: a random matrix per sample maps each output pixel to where it is read, bilinearly.

All take and return images float32 [B, C, H, W]. Coordinates are pixels from the image's centre, x to the right and y
down, as in torchvision. Outside of the image, `fill` gives black (`zero`), the nearest pixel (`edge`), or a reflection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.runtime.rng import Draws
from featherweight.schema import HalfOpenFraction, NonNegative, Positive

Fill = Literal["zero", "edge", "reflect"]
PADDING = {"zero": "zeros", "edge": "border", "reflect": "reflection"}


def resized(images: Tensor, side: int) -> Tensor:
    """Resize images float [B, C, H, W] to [B, C, side, side], bilinear with antialiasing."""
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def rotate(images: Tensor, draws: Draws, *, degrees: Positive = 15, fill: Fill = "zero") -> Tensor:
    """Rotate an image by an angle drawn between -`degrees` and `degrees` (LOGBOOK A7: 45, A8: 30, A15: 15)."""
    return warp(images, affine_matrix(_signed(draws) * degrees), fill)


def affine(
    images: Tensor,
    draws: Draws,
    *,
    degrees: NonNegative = 0,
    shift: HalfOpenFraction = 0.1,
    scale: tuple[Positive, Positive] = (0.9, 1.1),
    shear: NonNegative = 0,
    fill: Fill = "zero",
) -> Tensor:
    """Rotate, translate, scale and shear an image at random.

    The angle is up to `degrees` in either direction, the translation up to `shift` times the side, the factor of the
    scale between the two values of `scale`, and the shear along each axis up to `shear` degrees.
    """
    height, width = images.shape[-2:]
    return warp(
        images,
        affine_matrix(
            _signed(draws) * degrees,
            _signed(draws) * shift * width,
            _signed(draws) * shift * height,
            scale[0] + draws.uniform() * (scale[1] - scale[0]),
            _signed(draws) * shear,
            _signed(draws) * shear,
        ),
        fill,
    )


def warp(images: Tensor, matrix: Tensor, fill: Fill) -> Tensor:
    """Return images [B, C, H, W], each pixel read at the point that `matrix` [B, 2, 3] maps its (x, y, 1) to."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    places = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x).expand(height, width)], -1
    )
    read = places.reshape(1, -1, 3) @ matrix.transpose(1, 2) / _constant([width / 2, height / 2], images.device)
    return F.grid_sample(images, read.view(-1, height, width, 2), padding_mode=PADDING[fill], align_corners=False)


def affine_matrix(
    angle: Tensor,
    right: Tensor | float = 0.0,
    down: Tensor | float = 0.0,
    scale: Tensor | float = 1.0,
    shear_x: Tensor | float = 0.0,
    shear_y: Tensor | float = 0.0,
) -> Tensor:
    """Return the matrices [B, 2, 3], for `warp`, of affine transformations.

    Each argument is [B], or one number for all: `angle` in degrees, counter-clockwise; `right` and `down`, the
    translation in pixels; `scale`, a factor; `shear_x` and `shear_y` in degrees. They are torchvision's affine
    transformations, but for the direction of the angle, which is that of its `rotate`.
    """
    turn, x, y = (torch.ones_like(angle) * value * (math.pi / 180) for value in (-angle, shear_x, shear_y))
    a = torch.cos(turn - y) / torch.cos(y)
    b = -torch.cos(turn - y) * torch.tan(x) / torch.cos(y) - torch.sin(turn)
    c = torch.sin(turn - y) / torch.cos(y)
    d = -torch.sin(turn - y) * torch.tan(x) / torch.cos(y) + torch.cos(turn)
    rows = [
        d / scale,
        -b / scale,
        -(d * right - b * down) / scale,
        -c / scale,
        a / scale,
        -(a * down - c * right) / scale,
    ]
    return torch.stack(rows, -1).view(-1, 2, 3)


def _constant(values: Sequence[Any], device: torch.device) -> Tensor:
    # Made on the host and sent: a tensor made on a GPU from a list makes the host wait for the GPU.
    return torch.tensor(values, dtype=torch.float32).to(device, non_blocking=True)


def _signed(draws: Draws) -> Tensor:
    return draws.uniform() * 2 - 1
