"""Jackknife pseudo-values of a metric (Tukey 1958): what each image, or group of images, contributes to it.

Their mean is the metric with its small-sample bias removed; their variance divided by their number is the metric's. For
a mean of one value per image they are these values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.class_metrics import Mean, WeightedMetric

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
    parts = min(count, GROUPS)
    return _without_each(form, np.random.default_rng(0).permutation(count) % parts, parts)


def of_cells(form: WeightedMetric, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the pseudo-values of single images, float64 [N], if `counts` [cells] of them are alike, cell by cell."""
    total, whole = counts.sum(), counts.astype(np.float64)
    if total < 2:
        return form(whole[None])
    without = form(whole - np.eye(len(counts)))
    return np.repeat(total * form(whole[None]) - (total - 1) * without, counts)


def _without_each(form: WeightedMetric, dealt: NDArray[np.int64], parts: int) -> NDArray[np.float64]:
    """Return the pseudo-values float64 [parts] of the parts that images are `dealt` to, int64 [N]."""
    without = form((dealt[None] != np.arange(parts)[:, None]).astype(np.float64))
    contributions: NDArray[np.float64] = parts * form(np.ones((1, len(dealt)))) - (parts - 1) * without
    return contributions
