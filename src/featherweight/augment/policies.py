"""Augmentation policies over fourteen operations, with an operation and a strength drawn for each sample.

All take and return images float32 [B, C, H, W] in [0, 1]. The operations and their magnitudes are torchvision's, with
three differences: images are read bilinearly, translations are in proportion to the image (TrivialAugment's 32 pixels
are for images of 32), and nothing is rounded to whole levels between operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from featherweight.augment import color
from featherweight.augment.geometric import affine_matrix, warp
from featherweight.runtime.rng import Draws
from featherweight.schema import Fraction, PositiveInt

Operation = Callable[[Tensor, Tensor], Tensor]  # of images [B, C, H, W] and their magnitudes [B]


def trivial_augment(images: Tensor, draws: Draws) -> Tensor:
    """Apply one operation, drawn for each image, with a strength drawn from the wide range (arXiv:2103.10158)."""
    host = draws.on(torch.device("cpu"))
    names = [name for name in OPERATIONS if name != "Invert"]
    which, level = host.integers(len(names)), host.integers(31) / 30
    return _apply(images, names, which, _magnitudes(names, which, level, _signs(host), images.shape[-1], wide=True))


def rand_augment(images: Tensor, draws: Draws, *, count: PositiveInt = 2, magnitude: Fraction = 0.3) -> Tensor:
    """Apply `count` operations, drawn for each image, all at the strength `magnitude` (arXiv:1909.13719).

    0 changes nothing, 1 is torchvision's largest; 0.3 is its magnitude 9 of 30.
    """
    host = draws.on(torch.device("cpu"))
    names = [name for name in OPERATIONS if name != "Invert"]
    for _ in range(count):
        which = host.integers(len(names))
        level = torch.full((len(images),), magnitude)
        images = _apply(images, names, which, _magnitudes(names, which, level, _signs(host), images.shape[-1]))
    return images


def auto_augment(images: Tensor, draws: Draws) -> Tensor:
    """Apply one of the 25 pairs of operations found by search on CIFAR-10, drawn per image (arXiv:1805.09501)."""
    host = draws.on(torch.device("cpu"))
    names = list(OPERATIONS)
    which, chance, level = (table[host.integers(25)] for table in _cifar_policies(tuple(names)))
    for place in range(2):
        signs, left_out = _signs(host), host.uniform() >= chance[:, place]
        operation = torch.where(left_out, names.index("Identity"), which[:, place])
        magnitudes = _magnitudes(names, operation, level[:, place], signs, images.shape[-1])
        images = _apply(images, names, operation, magnitudes)
    return images


@functools.cache
def _cifar_policies(names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the operations (int64), their probabilities and strengths in [0, 1], each [25, 2], from torchvision."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy  # seconds to import

    pairs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    return (
        torch.tensor([[names.index(name) for name, _, _ in pair] for pair in pairs]),
        torch.tensor([[chance for _, chance, _ in pair] for pair in pairs]),
        torch.tensor([[(level or 0) / 9 for _, _, level in pair] for pair in pairs]),
    )


def _magnitudes(names: list[str], which: Tensor, level: Tensor, signs: Tensor, side: int, wide: bool = False) -> Tensor:
    """Return the magnitude [B] of each sample's operation at the strength `level` [B] in [0, 1]."""
    table = torch.stack([_magnitude(name, level, signs, side, wide) for name in names])
    return table.gather(0, which[None])[0]


def _magnitude(name: str, level: Tensor, signs: Tensor, side: int, wide: bool) -> Tensor:
    if name == "Posterize":
        return 8 - (level * (6 if wide else 4)).round()
    if name == "Solarize":
        return 1 - level
    narrow_wide = {
        "Shear": (0.3, 0.99),
        "Translate": (150 / 331 * side, side),
        "Rotate": (30, 135),
    }.get(name.rstrip("XY"), (0.9, 0.99))
    return level * signs * narrow_wide[wide]


def _signs(host: Draws) -> Tensor:
    return host.integers(2) * 2.0 - 1


def _apply(images: Tensor, names: list[str], which: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply each sample's operation; `which` and `magnitudes` [B] are on the host, which need not wait for a GPU."""
    places = [(which == number).nonzero()[:, 0] for number in range(len(names))]
    sent = [here.to(images.device, non_blocking=True) for here in places]
    strengths = magnitudes.to(images.device, non_blocking=True)
    results = [
        OPERATIONS[name](images[here], strengths[here]) for name, here in zip(names, sent, strict=True) if len(here)
    ]
    return torch.cat(results)[torch.cat(places).argsort().to(images.device, non_blocking=True)]


def _shear_x(images: Tensor, slope: Tensor) -> Tensor:
    # Sheared from the top edge, as in AutoAugment, not from the centre.
    return _read(images, slope, torch.zeros_like(slope), slope * images.shape[-2] / 2, torch.zeros_like(slope))


def _shear_y(images: Tensor, slope: Tensor) -> Tensor:
    return _read(images, torch.zeros_like(slope), slope, torch.zeros_like(slope), slope * images.shape[-1] / 2)


def _move_x(images: Tensor, pixels: Tensor) -> Tensor:
    none = torch.zeros_like(pixels)
    return _read(images, none, none, -pixels.trunc(), none)


def _move_y(images: Tensor, pixels: Tensor) -> Tensor:
    none = torch.zeros_like(pixels)
    return _read(images, none, none, none, -pixels.trunc())


def _read(images: Tensor, shear_x: Tensor, shear_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    one = torch.ones_like(x)
    return warp(images, torch.stack([one, shear_x, x, shear_y, one, y], -1).view(-1, 2, 3), "zero")


# As torchvision lists them. Color leaves images of one channel as they are.
OPERATIONS: dict[str, Operation] = {
    "Identity": lambda images, strength: images,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _move_x,
    "TranslateY": _move_y,
    "Rotate": lambda images, degrees: warp(images, affine_matrix(degrees), "zero"),
    "Brightness": lambda images, strength: color.adjust_brightness(images, 1 + strength),
    "Color": lambda images, strength: color.adjust_saturation(images, 1 + strength),
    "Contrast": lambda images, strength: color.adjust_contrast(images, 1 + strength),
    "Sharpness": lambda images, strength: color.adjust_sharpness(images, 1 + strength),
    "Posterize": color.posterized,
    "Solarize": color.solarized,
    "AutoContrast": lambda images, strength: color.stretch(images),
    "Equalize": lambda images, strength: color.equalized(images),
    "Invert": lambda images, strength: 1 - images,
}
