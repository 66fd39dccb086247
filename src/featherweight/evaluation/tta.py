"""Test-time views: each turns a batch of images into several with weights; several views multiply.

`[flip, shift]` asks the model six times. The probabilities are averaged by weight (see `predict_probs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from featherweight.augment.geometric import affine_matrix, resized, warp
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import Fraction, HalfFraction, Positive, PositiveInt

SIDE = 32  # pixels of the image that views are counted on

Weighted = Iterator[tuple[float, Tensor]]
Augmentation = Callable[[Tensor, Draws], Tensor]


class View(Protocol):
    """The signature of a view: images [B, C, H, W], random numbers by draw, and the training augmentations."""

    def __call__(  # noqa: D102
        self, images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation], /
    ) -> Weighted: ...


def flip(images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation]) -> Weighted:
    """The image and its mirror image, weighted equally."""
    yield 0.5, images
    yield 0.5, images.flip(-1)


def shift(
    images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation], *, distance: HalfFraction = 1 / 32
) -> Weighted:
    """The image (weight 1/2) and the image shifted up-left and down-right by `distance` of its side (1/4 each),
    reflected at the edges.

    The unshifted image has twice the weight because the others have lost a row and a column (as in airbench, Jordan
    2024).
    """
    side = images.shape[-1]
    pixels = max(1, round(side * distance))
    padded = F.pad(images, [pixels] * 4, mode="reflect")
    yield 0.5, images
    yield 0.25, padded[:, :, :side, :side]
    yield 0.25, padded[:, :, 2 * pixels :, 2 * pixels :]


def rotate(
    images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation], *, degrees: Positive = 10
) -> Weighted:
    """The image (weight 1/2) and the image rotated by `degrees` either way (1/4 each), with its edge pixels repeated.

    The unrotated image has twice the weight because rotation blurs and cuts corners.
    """
    yield 0.5, images
    for angle in (degrees, -degrees):
        turn = affine_matrix(torch.full((len(images),), float(angle), device=images.device))
        yield 0.25, warp(images, turn, "edge")


def scales(
    images: Tensor,
    draws: Callable[[int], Draws],
    augment: Sequence[Augmentation],
    *,
    factors: Annotated[list[Positive], Field(min_length=1)] = [1.0, 1.25],
) -> Weighted:
    """The image at several sizes, weighted equally.

    For networks that take any size, such as those that end in global average pooling.
    """
    side = images.shape[-1]
    for factor in factors:
        size = max(1, round(side * factor))
        yield 1 / len(factors), images if size == side else resized(images, size)


def five_crops(
    images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation], *, size: Fraction = 0.875
) -> Weighted:
    """The four corners and the centre, each `size` of the side and enlarged to the whole, weighted equally.

    `[flip, five_crops]` is ten-crop testing.
    """
    side = images.shape[-1]
    cut = max(1, round(side * size))
    far, middle = side - cut, round((side - cut) / 2)
    for top, left in ((0, 0), (0, far), (far, 0), (far, far), (middle, middle)):
        yield 0.2, resized(images[:, :, top : top + cut, left : left + cut], side)


def train(
    images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation], *, count: PositiveInt = 8
) -> Weighted:
    """Random draws of the training augmentations, weighted equally (LOGBOOK A12)."""
    for number in range(count):
        random, view = draws(number), images
        for operation in augment:
            view = operation(view, random)
        yield 1 / count, view


def mirrored(images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation]) -> Weighted:
    """The mirror image alone."""
    yield 1.0, images.flip(-1)


def upside_down(images: Tensor, draws: Callable[[int], Draws], augment: Sequence[Augmentation]) -> Weighted:
    """The image with its rows in reverse order, alone."""
    yield 1.0, images.flip(-2)


VIEWS: dict[str, Callable[..., Weighted]] = {
    "flip": flip,
    "shift": shift,
    "rotate": rotate,
    "scales": scales,
    "five_crops": five_crops,
    "train": train,
}


def product(
    images: Tensor, views: Sequence[View], draws: Callable[[int], Draws], augment: Sequence[Augmentation]
) -> Weighted:
    """Yield every combination of the views, one at a time, with the product of their weights."""
    if not views:
        yield 1.0, images
        return
    for weight, view in views[0](images, draws, augment):
        for inner, final in product(view, views[1:], draws, augment):
            yield weight * inner, final


def count(views: Sequence[View]) -> int:
    """Return how many times these views ask the model about an image."""
    return sum(1 for _ in product(torch.zeros(1, 3, SIDE, SIDE), views, _any_draws, ()))


def is_random(view: View) -> bool:
    """True if a view draws random numbers."""
    drawn: list[int] = []

    def draws(number: int) -> Draws:
        drawn.append(number)
        return _any_draws(number)

    for _ in view(torch.zeros(1, 3, SIDE, SIDE), draws, ()):
        pass
    return bool(drawn)


def _any_draws(number: int) -> Draws:
    return Draws(generator(0), 1, torch.device("cpu"), epoch=number)
