"""The metrics a competition may name, each with an interval that says how much of a score is luck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """A score and the ends of its 95 % interval, as fractions (0.9 is 90 %), over `count` images."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.2%} (95 % interval {self.low:.2%} to {self.high:.2%}, {self.count:,} images)"


def accuracy(predicted: NDArray[np.int64], true: NDArray[np.int64]) -> Score:
    """The part of the images whose class is right, with the exact (Clopper-Pearson) interval."""
    from scipy.stats import binomtest  # 0.4 s to import, and only needed here

    right, count = int((predicted == true).sum()), len(true)
    interval = binomtest(right, count).proportion_ci(0.95, "exact")
    return Score(right / count, float(interval.low), float(interval.high), count)


METRICS: dict[str, Callable[..., Score]] = {
    "accuracy": accuracy,
}
