"""The numbers about a data set that a plan is based on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherweight import paths
from featherweight.data.listing import Samples
from featherweight.describe.pictures import traits_of

if TYPE_CHECKING:
    from featherweight.config import Competition
    from featherweight.data.pack import LabelledPack, Pack

LOOKED_AT = 50  # pictures whose size is read


@dataclass(frozen=True)
class DatasetFacts:
    """Numbers of images, classes and pixels.

    Attributes:
        images: number of training images.
        holdout: number of images that score a run.
        predict: number of images to predict.
        classes: number of classes.
        smallest: number of training images of the rarest class.
        size: side of the images in pixels, as in the competition's file.
        side: typical side of the original pictures in pixels.
        channels: number of channels.
        mirror: true if the competition's file allows mirroring.
        pretrained: true if pretrained weights are allowed.
        several: true if an image has a set of classes.
        commonest: number of training images of the most frequent class (0: all classes are equally frequent).
    """

    images: int
    holdout: int
    predict: int
    classes: int
    smallest: int
    size: int
    side: int
    channels: int
    mirror: bool
    pretrained: bool
    several: bool = False
    commonest: int = 0

    @property
    def chance(self) -> float:
        """The error of always predicting the most frequent class, a fraction."""
        return 1 - max(1 / self.classes, self.commonest / self.images)

    @property
    def unevenness(self) -> float:
        """The error of always predicting the most frequent class, divided by that with equally frequent classes.

        It is 1 for equally frequent classes and 0.2 for two classes that are 9 : 1. An error divided by it is that of a
        data set of the same difficulty with even classes, for which the learning curves hold.
        """
        return 1.0 if self.several else self.chance / (1 - 1 / self.classes)

    def __str__(self) -> str:
        colour = "grey" if self.channels == 1 else "colour"
        pixels = f"{self.size} px" if self.side == self.size else f"{self.size} px (pictures of {self.side})"
        weights = "pretrained weights allowed" if self.pretrained else "from scratch"
        return (
            f"{self.images:,} images to train on, {self.classes} classes ({self.smallest:,} of the rarest), "
            f"{pixels}, {colour}, {weights}"
        )


def side_of(competition: Competition) -> int:
    """Return the typical side of the training pictures in pixels: the square root of width times height."""
    train = competition.source(paths.data()).train
    return round(traits_of(train, LOOKED_AT).side) if isinstance(train, Samples) else competition.image.size


def describe(
    competition: Competition, train: LabelledPack, holdout: LabelledPack, predict: Pack | None
) -> DatasetFacts:
    """Return the facts about training images, a holdout and the images to predict."""
    classes = len(competition.classes)
    several = train.labels.ndim == 2
    counts = train.labels.sum(0) if several else np.bincount(train.labels, minlength=classes)
    return DatasetFacts(
        images=len(train),
        holdout=len(holdout),
        predict=len(predict) if predict else 0,
        classes=classes,
        smallest=int(counts.min()),
        commonest=0 if several else int(counts.max()),
        several=several,
        size=competition.image.size,
        side=side_of(competition),
        channels=competition.image.channels,
        mirror=competition.image.mirror,
        pretrained=competition.limit.allow_pretrained,
    )
