"""The range in which the scores of the public and the private part of a leaderboard should lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from featherweight.evaluation import intervals
from featherweight.evaluation.metrics import Score

REPEATED = 0.25  # share of the variance of a gap that differs between two runs on the same images


def parts_of(
    holdout: Score,
    correction: float,
    shift: tuple[float, dict[str, float]],
    sizes: tuple[int, int],
    gaps: Sequence[float],
) -> list[tuple[float, float, float, int]]:
    """Return the expected score of each part of the leaderboard, the ends of its interval, and its number of images.

    `correction` is added to the score (a positive one makes it better). `shift` are the standard deviation that a shift
    or the mean of folds adds, and the estimates under a shift; none if none is seen. The variances of the holdout, of
    the part and of these add. Earlier gaps between public and holdout scores move the expectation as far as
    errors that runs on the same images share explain them (normal prior, normal likelihood), and reduce the variance
    accordingly.
    """
    own = ((holdout.high - holdout.low) / (2 * intervals.NORMAL)) ** 2
    doubt, estimates = shift
    common = own + doubt**2
    # Earlier public scores are better evidence than estimates.
    seen = float(np.mean(list(estimates.values()))) if estimates and not gaps else holdout.value
    centre = seen + holdout.of.sign * correction
    gap_variance = common + own * holdout.count / max(sizes[0], 1)
    weight = len(gaps) / (len(gaps) + REPEATED) if gaps and gap_variance > 0 else 0.0
    of_private = weight * common / gap_variance if gap_variance > 0 else 0.0
    gap, left = float(np.mean(gaps)) if gaps else 0.0, max(1 - weight, REPEATED)
    public = _ends(holdout, centre + weight * gap, common * left, sizes[0] / left)
    private = _ends(holdout, centre + of_private * gap, common * max(1 - of_private, REPEATED), sizes[1])
    return [(*public, sizes[0]), (*private, sizes[1])]


def _ends(holdout: Score, centre: float, variance: float, images: float) -> tuple[float, float, float]:
    """Return the expectation and the interval's ends for a part of `images` images if the truth is at `centre` with
    this variance.

    A loss is as skewed as on the holdout. A share is that of the effective number of independent images, which is the
    same fraction of all as on the holdout.
    """
    metric, images = holdout.of, max(images, 1)
    own = ((holdout.high - holdout.low) / (2 * intervals.NORMAL)) ** 2
    if metric.lower_is_better:
        centre = max(centre, 0.0)
        wider = math.sqrt((variance + own * holdout.count / images) / own) if own > 0 else 1.0
        below, above = wider * (holdout.value - holdout.low), wider * (holdout.high - holdout.value)
        return centre, max(centre - below, 0.0), centre + above
    low, high = metric.span
    size = high - low
    seen, share = (float(np.clip((value - low) / size, 0, 1)) for value in (holdout.value, centre))
    independent = intervals.effective_sample_size(seen, own / size**2, holdout.count)
    behind = intervals.effective_sample_size(share, variance / size**2, independent)
    ends = intervals.predictive_interval(share, behind, images * independent / holdout.count)
    return low + share * size, low + ends[0] * size, low + ends[1] * size
