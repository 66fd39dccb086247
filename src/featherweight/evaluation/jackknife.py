"""Jackknife pseudo-values of a metric (Tukey 1958): what each image, or group of images, contributes to it.

Their mean is the metric with its small-sample bias removed; their variance divided by their number is the metric's. For
a mean of one value per image they are these values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.class_metrics import Counts, Mean, WeightedMetric

CELLS = 2000  # of a confusion matrix, left out one by one: their square is held in memory
GROUPS = 200  # parts left out in turn; the standard error then has a relative error of a twentieth


def of_groups(form: WeightedMetric, group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the pseudo-values of whole groups of images, numbered in `group` int64 [N] from 0: float64 [min(groups,
    GROUPS)], or [groups] for a mean.
    """
    count, groups = len(group), int(group.max()) + 1
    if isinstance(form, Mean):
        contributions = form.contributions
        mean = contributions.mean()
        whole: NDArray[np.float64] = mean + groups / count * np.bincount(group, contributions - mean, groups)
        return whole
    if groups < 2:  # without it there is nothing left
        return form(np.ones((1, count)))
    parts = min(groups, GROUPS)
    dealt = (np.random.default_rng(0).permutation(groups) % parts)[group]
    return _without_each(form, dealt, parts)


def pseudo_values(form: WeightedMetric, count: int) -> NDArray[np.float64]:
    """Return the pseudo-values of a metric of `count` images left out in turn: float64 [min(count, GROUPS)], or [count]
    for a mean.

    With more images than GROUPS, random parts of nearly equal size are left out, always the same ones.
    """
    if isinstance(form, Mean):
        return form.contributions
    if count < 2:
        return form(np.ones((1, count)))
    return _without_random_parts(form, np.arange(count), count)


def of_cells(form: WeightedMetric, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the pseudo-values of single images, float64 [N], if `counts` [cells] of them are alike, cell by cell.

    Of more than CELLS cells (thousands of classes), random parts are left out instead: float64 [GROUPS].
    """
    total, whole = counts.sum(), counts.astype(np.float64)
    if total < 2:
        return form(whole[None])
    if len(counts) > CELLS:
        return _without_random_parts(form, np.repeat(np.arange(len(counts)), counts), len(counts))
    without = form(whole - np.eye(len(counts)))
    return np.repeat(total * form(whole[None]) - (total - 1) * without, counts)


def _without_random_parts(form: WeightedMetric, place: NDArray[np.int64], places: int) -> NDArray[np.float64]:
    """Return the pseudo-values float64 [min(N, GROUPS)] of random parts of images, each at a `place` int64 [N] of the
    metric's `places`.
    """
    parts = min(len(place), GROUPS)
    dealt = np.random.default_rng(0).permutation(len(place)) % parts
    left_out = np.bincount(dealt * places + place, minlength=parts * places).reshape(parts, places).astype(np.float64)
    whole = left_out.sum(0)
    return _from_those_left(form, whole[None], whole - left_out)


def _without_each(form: WeightedMetric, dealt: NDArray[np.int64], parts: int) -> NDArray[np.float64]:
    """Return the pseudo-values float64 [parts] of the parts that images are `dealt` to, int64 [N]."""
    left = (dealt[None] != np.arange(parts)[:, None]).astype(np.float64)
    return _from_those_left(form, np.ones((1, len(dealt))), left)


def _from_those_left(form: WeightedMetric, whole: Counts, left: Counts) -> NDArray[np.float64]:
    """Return the pseudo-values float64 [P] of P parts: `left` [P, N] are the weights without each, `whole` [1, N]."""
    contributions: NDArray[np.float64] = len(left) * form(whole) - (len(left) - 1) * form(left)
    return contributions
