"""95 % intervals that hold as often as they say, of few images and of flawless scores too: see `bench coverage`.

A proportion has the mid-P interval, which is Clopper and Pearson's with half the probability of what was seen: theirs
holds in 98 to 99 of 100 cases instead of 95. Another score within bounds has the same interval, of as many images as
would make a proportion as uncertain as the bootstrap finds it (Korn & Graubard 1998). A loss has the bootstrap's own
distribution of the score over its standard error (bootstrap-t), which heeds that losses are skewed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

OUTSIDE = 0.025  # the probability that the truth is beyond either end


def proportion(hits: float, count: float) -> Interval:
    """The mid-P interval of a proportion, of numbers that need not be whole."""
    from scipy.optimize import brentq
    from scipy.special import betainc

    def beyond(p: float) -> float:
        """The probability of more than `hits` at p, and half that of `hits`."""
        most = float(betainc(hits, count - hits + 1, p)) if hits > 0 else 1.0
        more = float(betainc(hits + 1, count - hits, p)) if hits < count else 0.0
        return (most + more) / 2

    low = 0.0 if hits <= 0 else brentq(lambda p: beyond(p) - OUTSIDE, 0, 1)
    high = 1.0 if hits >= count else brentq(lambda p: beyond(p) - 1 + OUTSIDE, 0, 1)
    return float(low), float(high)


def bounded(
    value: float, drawn: NDArray[np.float64], images: float, span: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Of a score within `span`, from its bootstrap [R] and the number of `images` behind it.

    Where resamples hardly differ, as of a flawless score, half an image is taken to be wrong: that bounds what may be
    concluded from so few.
    """
    low, high = span
    share, some = (value - low) / (high - low), (drawn - low) / (high - low)
    spread = float(some.var(ddof=1)) * images / max(images - 1, 1)
    centre = float(np.clip(2 * share - some.mean(), 0, 1))  # the bootstrap shows the bias of means over few images
    doubtful = (images * centre + 0.5) / (images + 1)
    doubt = max(doubtful * (1 - doubtful) - centre * (1 - centre), 0.0) / images
    effective = max(doubtful * (1 - doubtful) / (spread + doubt), 1.0) if spread + doubt > 0 else images
    effective *= _shrink(images)
    ends = proportion(effective * centre, effective)
    first, last = min(ends[0], share), max(ends[1], share)
    return low + first * (high - low), low + last * (high - low)


def studentized(values: NDArray[np.float64], resamples: Iterable[NDArray[np.float64]]) -> Interval:
    """Of the mean of values of 0 or more, [N], from resamples in pieces [R, N]: how often each value is drawn."""
    count, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    if error == 0.0:
        return mean, mean
    apart = []
    for weights in resamples:
        means = weights @ values / count
        errors = np.sqrt(np.maximum(weights @ values**2 / count - means**2, 0) / max(count - 1, 1))
        apart.append((means - mean) / np.maximum(errors, error / 20))
    low, high = np.quantile(np.concatenate(apart), [OUTSIDE, 1 - OUTSIDE])
    return max(mean - float(high) * error, 0.0), max(mean - float(low) * error, mean)


def _shrink(images: float) -> float:
    """By how much a spread that was estimated from few images counts for less: Student's quantile for the normal's."""
    from scipy.stats import norm, t

    if images < 3:
        return 0.5
    return float((norm.ppf(OUTSIDE) / t.ppf(OUTSIDE, images - 1)) ** 2)
