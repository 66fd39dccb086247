"""The augmentations that a recipe may list, in the order in which it applies them.

Each is a pure function that takes images float32 [B, C, H, W] in [0, 1] on the device and the batch's `Draws`, and
returns images of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from featherweight.augment.color import (
    autocontrast,
    blur,
    equalize,
    jitter,
    noise,
    posterize,
    sharpness,
    solarize,
)
from featherweight.augment.crops_and_flips import alternating_flip, crop, flip, vertical_flip
from featherweight.augment.geometric import affine, rotate
from featherweight.augment.occlusion import cutout, erasing
from featherweight.augment.policies import auto_augment, rand_augment, trivial_augment
from featherweight.augment.resized_crop import random_resized_crop
from featherweight.runtime.rng import Draws

Augmentation = Callable[[Tensor, Draws], Tensor]


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "crop": crop,
    "random_resized_crop": random_resized_crop,
    "flip": flip,
    "alternating_flip": alternating_flip,
    "vertical_flip": vertical_flip,
    "rotate": rotate,
    "affine": affine,
    "jitter": jitter,
    "blur": blur,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "equalize": equalize,
    "autocontrast": autocontrast,
    "noise": noise,
    "cutout": cutout,
    "erasing": erasing,
    "trivial_augment": trivial_augment,
    "rand_augment": rand_augment,
    "auto_augment": auto_augment,
}

# Left out where the competition says that a mirrored image may be of another class.
MIRRORING = ("flip", "alternating_flip", "vertical_flip")

SIDEWAYS = ("flip", "alternating_flip")  # those that flip horizontally

WHOLE = "random_resized_crop"  # takes whole pictures, which may differ in size
