"""What a pilot, a short training on the data at hand, showed: how hard the data are, and which flips they bear."""

from __future__ import annotations

import math
from dataclasses import dataclass

from featherweight.evaluation.intervals import NORMAL
from featherweight.planning.candidates import Candidate

TELLING_GAIN = 0.1  # minimum gain over chance, relative to it, of a pilot that can judge mirroring
MIRRORING_LOSS = 0.1  # if mirroring loses more of the gain over chance than this, it changes classes
UPSIDE_DOWN_LOSS = 0.05  # if turning upside down surely loses less of it than this, up and down are alike
UNLIKE_ERROR = 0.15  # error relative to chance; a probe had 0.07 on dogs and cats, 0.24 on seedlings


@dataclass(frozen=True)
class FlipDrop:
    """The increase of a pilot's error, a fraction, when the images are flipped, and its standard error."""

    increase: float
    standard_error: float

    @property
    def lower_end(self) -> float:
        """The lower end of the 95 % interval of the increase."""
        return self.increase - NORMAL * self.standard_error

    @property
    def upper_end(self) -> float:
        """The upper end of the 95 % interval of the increase."""
        return self.increase + NORMAL * self.standard_error


@dataclass(frozen=True)
class Pilot:
    """The outcome of a short training.

    Attributes:
        candidate: what was trained, for `epochs` epochs (0: a linear probe) on `images` images.
        parameters: of its network.
        holdout: the number of held-out images that judged it.
        error: the fraction of these that it gets wrong.
        chance: the fraction that is wrong if the most frequent class of these is always predicted.
        mirror_drop: how many more it gets wrong when the images are mirrored.
        upside_drop: how many more it gets wrong when they are upside down.
        slowdown: the time of a step (of a view, for a probe) divided by the time measured before.
        regression_seconds: the time of a probe's regression, per `regression_work`.
    """

    candidate: Candidate
    parameters: int
    images: int
    epochs: float
    holdout: int
    error: float
    chance: float
    mirror_drop: FlipDrop
    upside_drop: FlipDrop
    slowdown: float = 1.0
    regression_seconds: float | None = None

    @property
    def has_learned(self) -> bool:
        """True if it is significantly better than always predicting the most frequent class."""
        doubt = math.sqrt(self.chance * (1 - self.chance) / self.holdout)
        return self.chance - self.error > NORMAL * doubt

    @property
    def tells_of_mirroring(self) -> bool:
        """True if it has learned enough to lose something by mirroring."""
        return self.has_learned and self.chance - self.error > TELLING_GAIN * self.chance

    @property
    def forbids_mirroring(self) -> bool:
        """True if mirroring significantly changes the class of images."""
        return self.tells_of_mirroring and self.mirror_drop.lower_end > MIRRORING_LOSS * (self.chance - self.error)

    @property
    def allows_upside_down(self) -> bool:
        """True if it recognises images upside down nearly as well: seen from above, or through a microscope."""
        gain = self.chance - self.error
        return self.tells_of_mirroring and self.upside_drop.upper_end < UPSIDE_DOWN_LOSS * gain

    @property
    def is_unlike(self) -> bool:
        """True for a probe whose network has seen nothing like these images.

        With few images per class a probe has a larger error, whatever they show, so this is true too often. Too bold
        fine-tuning costs less than too gentle one.
        """
        return self.candidate.starts_published and self.error > UNLIKE_ERROR * self.chance

    def __str__(self) -> str:
        right = f"{1 - self.error:.1%} of {self.holdout:,} right after {self.images:,} images"
        if self.has_learned:
            return right
        return f"{right}, no better than always predicting the most frequent class ({1 - self.chance:.1%})"
