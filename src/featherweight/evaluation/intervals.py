"""95 % intervals that hold as often as they say, of few images and of flawless scores too: see `bench coverage`.

A proportion has the mid-P interval, which is Clopper and Pearson's with half the probability of what was seen: theirs
holds in 98 to 99 of 100 cases instead of 95. Every other score has an interval of its pseudo-values (see `jackknife`).
Within bounds it is the mid-P interval of as many images as would make a proportion as uncertain (Korn & Graubard 1998).
A loss has Student's interval with its skewness taken out (Hall 1992), which needs no resamples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

OUTSIDE = 0.025  # the probability that the truth is beyond either end
NORMAL = 1.96  # standard errors to either end
SECANTS = 20  # at most; a few do
WHOLE = 20_000  # images of which one more or less makes no difference
IMAGINED = 0.05  # of an image that a loss is of, beside those there are; from 0.02 to 0.1 it makes little difference


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
    value: float, contributions: NDArray[np.float64], images: float, span: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """The interval of a score within `span`, from its pseudo-values [G] and the number of `images` behind it.

    Where they hardly differ, as of a flawless score, half an image is taken to be wrong: that bounds what may be
    concluded from so few.
    """
    low, high = span
    share, some = (value - low) / (high - low), (contributions - low) / (high - low)
    spread = float(some.var(ddof=1)) / len(some) if len(some) > 1 else 0.0
    centre = float(np.clip(some.mean(), 0, 1))
    ends = of_variance(centre, spread, images)
    first, last = min(ends[0], share), max(ends[1], share)
    return low + first * (high - low), low + last * (high - low)


def of_variance(share: float, variance: float, images: float) -> Interval:
    """The interval of a part of a whole whose estimate has this variance: that of the number of images which would be
    that uncertain."""
    doubtful = (images * share + 0.5) / (images + 1)
    doubt = max(doubtful * (1 - doubtful) - share * (1 - share), 0.0) / images
    effective = max(doubtful * (1 - doubtful) / (variance + doubt), 1.0) if variance + doubt > 0 else images
    effective *= _shrink(images)
    return proportion(effective * share, effective)


def images_behind(share: float, variance: float, about: float) -> float:
    """Of how many images, `about` so many, a proportion would have a mid-P interval as wide as this variance's."""
    wanted = math.log(max(2 * NORMAL * math.sqrt(variance), 1e-9))

    def wider(log_images: float) -> float:
        images = math.exp(log_images)
        low, high = proportion(images * share, images)
        return math.log(high - low) - wanted

    fewest, most = math.log(0.5), math.log(1e9)
    images, slope = min(max(math.log(about), fewest), most), -0.5  # a width falls by the root of the images
    beyond = wider(images)
    for _ in range(SECANTS):
        following = min(max(images - beyond / slope, fewest), most)
        if abs(beyond) < 1e-6 or following == images:
            break
        before, images, beyond = (images, beyond), following, wider(following)
        slope = min((beyond - before[1]) / (images - before[0]), -0.1)
    return math.exp(images)


def of_a_sample(share: float, behind: float, images: float) -> Interval:
    """Where the part of so many `images` that are right will lie, if `share` of those `behind` were: in a whole number
    of them, whose probabilities are beta-binomial.
    """
    from scipy.stats import beta, betabinom

    right, wrong = behind * share + 0.5, behind * (1 - share) + 0.5  # what is known of the truth, after Jeffreys
    count = max(round(images), 1)
    if count > WHOLE:
        narrower = images / (images + right + wrong)  # the variances of the truth and of the images add
        low, high = beta.ppf([OUTSIDE, 1 - OUTSIDE], narrower * right, narrower * wrong)
        return float(low), float(high)
    reached = np.cumsum(betabinom.pmf(np.arange(count + 1), count, right, wrong))
    ends = np.searchsorted(reached, [OUTSIDE, 1 - OUTSIDE]).clip(max=count) / count
    return float(ends[0]), float(ends[1])


def skewed(value: float, contributions: NDArray[np.float64], imagined: float) -> Interval:
    """Interval of a loss of 0 or more, from its pseudo-values [G] and what it would be for answers to other images.

    Large losses are rare, so few images may show none: a small part of one `imagined` image is added to the variance
    and to the skewness. The ends are those of Student's t of the mean, transformed to have no skewness (Hall 1992).
    """
    from scipy.stats import t

    count = len(contributions)
    apart, beyond = contributions - contributions.mean(), max(imagined - value, 0.0)
    variance = float(apart @ apart) / max(count - 1, 1) + IMAGINED * beyond**2 / (count + 1)
    if variance <= 0:
        return value, value
    skewness: float = (float((apart**3).mean()) + IMAGINED * beyond**3 / (count + 1)) / variance**1.5
    error = math.sqrt(variance / count)

    def transformed(quantile: float) -> float:
        """Where the t statistic is, whose transform is at `quantile`."""
        slope = skewness / math.sqrt(count)
        if abs(slope) < 1e-6:
            return quantile
        root = float(np.cbrt(1 + slope * (quantile - slope / 6)))
        return 3 * (root - 1) / slope

    ends = [value - transformed(float(t.ppf(part, max(count - 1, 1)))) * error for part in (1 - OUTSIDE, OUTSIDE)]
    return min(max(ends[0], 0.0), value), max(ends[1], value)


def _shrink(images: float) -> float:
    """By how much a spread that was estimated from few images counts for less: Student's quantile for the normal's."""
    from scipy.stats import norm, t

    if images < 3:
        return 0.5
    return float((norm.ppf(OUTSIDE) / t.ppf(OUTSIDE, images - 1)) ** 2)
