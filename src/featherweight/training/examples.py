"""The data that a model is trained and scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featherweight.augment.table import Augmentation
from featherweight.data.pack import LabelledPack
from featherweight.training.distillation import NO_TEACHERS, Teachers


@dataclass(frozen=True)
class Examples:
    """The images that a model is trained and scored on, the number of classes, augmentations, and teachers."""

    train: LabelledPack
    holdout: LabelledPack
    num_classes: int
    augment: Sequence[Augmentation] = ()
    teachers: Teachers = NO_TEACHERS
