"""The learning-rate schedules a recipe may name: each maps where a run stands to a factor on the optimizer's rate."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

from featherweight.schema import Fraction, NonNegative, Positive


@dataclass(frozen=True)
class Progress:
    """Where a run stands before a step: nothing has been done at step 0."""

    step: int
    steps_per_epoch: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Of the whole run, 0 to 1."""
        return self.step / (self.steps_per_epoch * self.epochs)


def constant(progress: Progress) -> float:
    """The same rate throughout."""
    return 1.0


def stepped(progress: Progress, *, at: list[Fraction] = [0.3, 0.5, 0.7, 0.9], factor: Positive = 0.2) -> float:
    """The rate times `factor` for each of the fractions `at` of the run's epochs that have been reached (LOGBOOK A)."""
    # The epoch's number is compared, not the quotient: 0.7 * 10 epochs is reached at epoch 7 whatever floats say.
    reached = bisect.bisect_right([round(part * progress.epochs, 9) for part in sorted(at)], progress.epoch)
    return float(factor**reached)


def cosine(progress: Progress, *, warmup: Fraction = 0.0, final: NonNegative = 0.0) -> float:
    """Up linearly over the part `warmup` of the run, then down along a half cosine to `final` (arXiv:1608.03983)."""
    if progress.fraction < warmup:
        return (progress.fraction + 1 / (progress.steps_per_epoch * progress.epochs)) / warmup
    down = (progress.fraction - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return final + (1 - final) * (1 + math.cos(math.pi * down)) / 2


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "stepped": stepped,
    "cosine": cosine,
}
