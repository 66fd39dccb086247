"""A competition in numbers: what a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherweight import paths
from featherweight.data.listing import Samples
from featherweight.describe.pictures import traits_of

if TYPE_CHECKING:
    from featherweight.config import Competition
    from featherweight.data.pack import Pack

LOOKED_AT = 50  # pictures whose size is looked at


@dataclass(frozen=True)
class DatasetFacts:
    """Counts of images, classes and pixels.

    `images` are trained on, `holdout` scores them, `predict` are the competition's own; `smallest` is the number of
    training images of the rarest class and `commonest` of the most frequent one (0: the classes are as frequent as each
    other); `size` is the side in pixels that the competition's file gives the images, and `side` the typical one of the
    pictures themselves. `several`: an image has a set of classes.
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
        """The error of always answering the most frequent class."""
        return 1 - max(1 / self.classes, self.commonest / self.images)

    @property
    def unevenness(self) -> float:
        """How much of the error of guessing among classes as frequent as each other is left to guess wrong here: 1
        where they are, 0.2 of two classes that are 9 : 1.

        An error by this is that of a task as hard with even classes, of which the learning curves tell.
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
    """The typical side in pixels of a competition's training pictures: the root of width times height."""
    train = competition.source(paths.data()).train
    return round(traits_of(train, LOOKED_AT).side) if isinstance(train, Samples) else competition.image.size


def describe(competition: Competition, train: Pack, holdout: Pack, predict: Pack | None) -> DatasetFacts:
    """The task that training images, a holdout and the competition's pictures set."""
    assert train.labels is not None
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
