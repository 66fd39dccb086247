"""A metric's pseudo-values (Tukey 1958): what each image, or group of images, contributes to it.

Their mean is the metric without the bias that few images give it, and their variance over their number that of the
metric. For a mean of one value per image they are these values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.class_metrics import Mean, WeightedMetric

GROUPS = 200  # that are left out in turn, of more images than that: the error then has an error of a twentieth


def of_groups(form: WeightedMetric, group: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [min(groups, GROUPS)], or [groups] of a mean: the pseudo-values of whole groups of images, whose numbers
    are `group` int64 [N], from 0 on; what is alike within a group does not count as many.
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
    """float64 [min(count, GROUPS)], or [count] of a mean: the metric of `count` images left out in turn.

    Groups are dealt by chance, always the same way, and differ by one image at most.
    """
    if isinstance(form, Mean):
        return form.contributions
    if count < 2:
        return form(np.ones((1, count)))
    parts = min(count, GROUPS)
    return _without_each(form, np.random.default_rng(0).permutation(count) % parts, parts)


def of_cells(form: WeightedMetric, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [N]: the pseudo-values of single images where `counts` [cells] of them are alike, cell by cell."""
    total, whole = counts.sum(), counts.astype(np.float64)
    if total < 2:
        return form(whole[None])
    without = form(whole - np.eye(len(counts)))
    return np.repeat(total * form(whole[None]) - (total - 1) * without, counts)


def _without_each(form: WeightedMetric, dealt: NDArray[np.int64], parts: int) -> NDArray[np.float64]:
    """float64 [parts]: the pseudo-values of the parts that images are `dealt` to, int64 [N]."""
    without = form((dealt[None] != np.arange(parts)[:, None]).astype(np.float64))
    contributions: NDArray[np.float64] = parts * form(np.ones((1, len(dealt)))) - (parts - 1) * without
    return contributions
