"""95 % intervals whose coverage holds for few images and for flawless scores too: see `bench coverage`.

A proportion has the mid-P interval: Clopper and Pearson's with half the probability of the observed count, since theirs
covers 98 to 99 of 100 cases instead of 95. Every other score has an interval from its jackknife pseudo-values (see
`jackknife`). For a bounded score it is the mid-P interval at its effective sample size (Korn & Graubard 1998). A loss
has a t interval corrected for skewness (Hall 1992), which needs no resamples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

OUTSIDE = 0.025  # the probability beyond either end
NORMAL = 1.96  # standard errors from the centre to either end of a 95 % interval
SECANTS = 20  # steps at most; a few suffice
WHOLE = 20_000  # images, above which the beta-binomial is approximated by a beta distribution
IMAGINED = 0.05  # weight of the imagined image of a loss; 0.02 to 0.1 give nearly the same


def proportion(hits: float, count: float) -> Interval:
    """Return the mid-P interval of a proportion; `hits` and `count` need not be integers."""
    from scipy.optimize import brentq
    from scipy.special import betainc

    def beyond(p: float) -> float:
        """Return the probability of more than `hits` hits at p, plus half that of exactly `hits`."""
        most = float(betainc(hits, count - hits + 1, p)) if hits > 0 else 1.0
        more = float(betainc(hits + 1, count - hits, p)) if hits < count else 0.0
        return (most + more) / 2

    low = 0.0 if hits <= 0 else brentq(lambda p: beyond(p) - OUTSIDE, 0, 1)
    high = 1.0 if hits >= count else brentq(lambda p: beyond(p) - 1 + OUTSIDE, 0, 1)
    return float(low), float(high)


def score_interval(
    value: float, contributions: NDArray[np.float64], images: float, span: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Return the interval of a score within `span`, from its pseudo-values [G] and the effective number of `images`.

    If the pseudo-values hardly differ, as for a flawless score, half an image is assumed to be wrong: this bounds what
    may be concluded from few images.
    """
    low, high = span
    share, some = (value - low) / (high - low), (contributions - low) / (high - low)
    spread = float(some.var(ddof=1)) / len(some) if len(some) > 1 else 0.0
    centre = float(np.clip(some.mean(), 0, 1))
    # One group of related images shows no variance: it is one observation.
    ends = interval_from_variance(centre, spread, images) if len(some) > 1 else proportion(centre, 1.0)
    first, last = min(ends[0], share), max(ends[1], share)
    return low + first * (high - low), low + last * (high - low)


def interval_from_variance(share: float, variance: float, images: float) -> Interval:
    """Return the interval of a proportion whose estimate has this variance: the mid-P interval at the number of images
    that would give this variance (the effective sample size).
    """
    doubtful = (images * share + 0.5) / (images + 1)
    doubt = max(doubtful * (1 - doubtful) - share * (1 - share), 0.0) / images
    effective = max(doubtful * (1 - doubtful) / (variance + doubt), 1.0) if variance + doubt > 0 else images
    effective *= _shrink(images)
    return proportion(effective * share, effective)


def effective_sample_size(share: float, variance: float, about: float) -> float:
    """Return the effective sample size: the number of images at which the mid-P interval of `share` is as wide as a
    normal one of this variance, 2 * 1.96 * sqrt(variance). `about` is the starting guess of the secant method.
    """
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


def predictive_interval(share: float, behind: float, images: float) -> Interval:
    """Return the beta-binomial predictive interval: between which shares the number of right answers on `images` new
    images will lie, after the share `share` of `behind` images was right.
    """
    from scipy.stats import beta, betabinom

    right, wrong = behind * share + 0.5, behind * (1 - share) + 0.5  # posterior with Jeffreys' prior
    count = max(round(images), 1)
    if count > WHOLE:
        narrower = images / (images + right + wrong)  # the variances of truth and sample add
        low, high = beta.ppf([OUTSIDE, 1 - OUTSIDE], narrower * right, narrower * wrong)
        return float(low), float(high)
    reached = np.cumsum(betabinom.pmf(np.arange(count + 1), count, right, wrong))
    ends = np.searchsorted(reached, [OUTSIDE, 1 - OUTSIDE]).clip(max=count) / count
    return float(ends[0]), float(ends[1])


def hall_t_interval(value: float, contributions: NDArray[np.float64], imagined: float) -> Interval:
    """Return Hall's skewness-corrected t interval (1992) of a loss of 0 or more, from its pseudo-values [G].

    Large losses are rare, so few images may show none: a small fraction of one image with the loss `imagined`, that of
    answers unrelated to their images, is added to the variance and to the skewness. One image, or one group, shows no
    variance: the interval is that of the mean of an exponential distribution, and reaches the loss `imagined`.
    """
    from scipy.stats import t

    count = len(contributions)
    if count < 2:
        return value / -math.log(OUTSIDE), max(value / -math.log(1 - OUTSIDE), imagined)
    apart, beyond = contributions - contributions.mean(), max(imagined - value, 0.0)
    variance = float(apart @ apart) / max(count - 1, 1) + IMAGINED * beyond**2 / (count + 1)
    if variance <= 0:
        return value, value
    skewness: float = (float((apart**3).mean()) + IMAGINED * beyond**3 / (count + 1)) / variance**1.5
    error = math.sqrt(variance / count)

    def transformed(quantile: float) -> float:
        """Return the t statistic whose skewness-corrected transform equals `quantile`."""
        slope = skewness / math.sqrt(count)
        if abs(slope) < 1e-6:
            return quantile
        root = float(np.cbrt(1 + slope * (quantile - slope / 6)))
        return 3 * (root - 1) / slope

    ends = [value - transformed(float(t.ppf(part, max(count - 1, 1)))) * error for part in (1 - OUTSIDE, OUTSIDE)]
    return min(max(ends[0], 0.0), value), max(ends[1], value)


def _shrink(images: float) -> float:
    """Return the factor by which few images reduce an effective sample size: squared ratio of normal to t quantile."""
    from scipy.stats import norm, t

    if images < 3:
        return 0.5
    return float((norm.ppf(OUTSIDE) / t.ppf(OUTSIDE, images - 1)) ** 2)
