"""What a model learns from and is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featherweight.augment.table import Augmentation
from featherweight.data.pack import Pack
from featherweight.training.distillation import NOBODY, Teachers


@dataclass(frozen=True)
class Examples:
    """What a model learns from and is scored on: images, the number of their classes, what is done to them, and the
    teachers that answer for them too.
    """

    train: Pack
    holdout: Pack
    num_classes: int
    augment: Sequence[Augmentation] = ()
    teachers: Teachers = NOBODY
