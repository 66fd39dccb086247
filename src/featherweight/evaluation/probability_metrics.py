"""Metrics of probabilities and of rankings as functions of how often each image counts: see `class_metrics`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.class_metrics import (
    Answers,
    Counts,
    Labels,
    Mean,
    Probabilities,
    WeightedMetric,
    indicators,
    mean_of,
    ratio,
)
from featherweight.schema import Flag, Positive, PositiveInt

SMALLEST = 1e-15  # Kaggle clips probabilities to it before it takes logarithms


def normalized(probs: NDArray[np.floating]) -> Probabilities:
    """Return probabilities float64 [N, K], clipped away from 0, with rows that sum to one."""
    clipped = probs.astype(np.float64).clip(SMALLEST, None)
    scaled: Probabilities = clipped / clipped.sum(1, keepdims=True)
    return scaled


def log_loss(probs: Probabilities, true: Answers) -> WeightedMetric:
    """Mean negative logarithm of the true class's probability, with rows scaled to one; lower is better.

    For sets, the mean over classes of the binary log loss.
    """
    return mean_of(_logs(probs, true).mean(1) if true.ndim == 2 else _logs(probs, true))


def weighted_log_loss(
    probs: Probabilities, true: Answers, *, weights: list[Positive] | None = None, balanced: Flag = False
) -> WeightedMetric:
    """Log loss with a weight per class in `weights`, in the order of the classes (for sets: of each column). With
    `balanced` it is the weighted mean of each class's own mean, so that the class sizes do not matter.
    """
    logs = _logs(probs, true)
    by = np.ones(probs.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if true.ndim == 2:
        return mean_of(logs @ by / by.sum())
    if not balanced:
        return Mean(logs, by[true])
    member = indicators(true, len(by))

    def of(images: Counts) -> NDArray[np.float64]:
        counts = images @ member
        means = ratio((images * logs) @ member, counts)
        mean: NDArray[np.float64] = (means @ by) / ((counts > 0) @ by)
        return mean

    return of


def brier(probs: Probabilities, true: Answers) -> WeightedMetric:
    """Brier score: mean squared distance of the probabilities from the truth, summed over classes, from 0 to 2."""
    truth = true if true.ndim == 2 else np.eye(probs.shape[1])[true]
    forecast = probs.astype(np.float64) if true.ndim == 2 else normalized(probs)
    return mean_of(((forecast - truth) ** 2).sum(1))


def auc(probs: Probabilities, true: Answers) -> WeightedMetric:
    """Area under the ROC curve of each class against the rest, averaged over the classes with images on both sides.

    For weighted images it is the first-order expansion by placement values (DeLong et al. 1988).
    """
    areas, shares = _areas(probs, true)
    return mean_of(areas.mean() + shares / len(areas) if len(areas) else np.full(len(true), 0.5))


def mean_average_precision(probs: Probabilities, true: Answers) -> WeightedMetric:
    """Mean over classes of the average precision: over the images of a class, the mean precision among the images with
    at least the same probability. Classes without images are left out.
    """
    present = np.flatnonzero(true.any(0)) if true.ndim == 2 else np.unique(true)

    def of(weights: Counts) -> NDArray[np.float64]:
        # One class at a time, sorted anew for each call: the orders of thousands of classes do not fit into memory.
        each = np.stack([_average_precision(probs[:, k], _is_of(true, k))(weights) for k in present])
        counted: NDArray[np.float64] = np.nansum(each, 0) / np.isfinite(each).sum(0).clip(1)
        return counted

    return of if len(present) else mean_of(np.zeros(len(true)))


def top_k(ranked: Labels, true: Labels, *, k: PositiveInt = 5) -> WeightedMetric:
    """Share of the images whose class is among the `k` most probable; ties are broken in the order of the classes."""
    return mean_of((ranked[:, :k] == true[:, None]).any(1))


def map_at_k(ranked: Labels, true: Answers, *, k: PositiveInt = 5) -> WeightedMetric:
    """MAP@k: with one class per image the mean of 1 / rank of the true one, 0 if it is not among the first `k`.

    For sets, the mean over images of the precision at each class of the set that is found, over the number that could
    be.
    """
    first = ranked[:, :k]
    if true.ndim == 1:
        hits = first == true[:, None]
        return mean_of((hits / np.arange(1, hits.shape[1] + 1)).sum(1))
    hits = np.take_along_axis(true.astype(bool), first.clip(0), 1) & (first >= 0)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return mean_of(ratio((precision * hits).sum(1), true.sum(1).clip(0, k).astype(np.float64)))


def ranking(probs: NDArray[np.floating]) -> Labels:
    """Return the classes of each image, int64 [N, K], the most probable first; ties in the order of the classes."""
    order: Labels = np.argsort(-probs, axis=1, kind="stable")
    return order


def _logs(probs: Probabilities, true: Answers) -> NDArray[np.float64]:
    """Return the negative logarithm of the true class's probability, [N]; for sets that of each class, [N, K]."""
    if true.ndim == 1:
        logs: NDArray[np.float64] = -np.log(normalized(probs)[np.arange(len(true)), true])
        return logs
    certain = probs.astype(np.float64).clip(SMALLEST, 1 - SMALLEST)
    both: NDArray[np.float64] = -np.where(true, np.log(certain), np.log1p(-certain))
    return both


def _is_of(true: Answers, k: np.integer[Any]) -> NDArray[np.bool_]:
    """Return True [N] for the images of class k."""
    of: NDArray[np.bool_] = true[:, k].astype(bool) if true.ndim == 2 else true == k
    return of


def _average_precision(scores: Probabilities, member: NDArray[np.bool_]) -> WeightedMetric:
    """Return one class's average precision; NaN where its images have no weight."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # the last image of each tie
    last = np.flatnonzero(ends)[np.cumsum(np.append(0, ends[:-1]))]

    def of(weights: Counts) -> NDArray[np.float64]:
        ordered = weights[:, order]
        positive = ordered * member[order]
        precision = ratio(positive.cumsum(1)[:, last], ordered.cumsum(1)[:, last])
        total = positive.sum(1)
        return np.where(total > 0, ratio((positive * precision).sum(1), total), np.nan)

    return of


def _areas(probs: Probabilities, true: Answers) -> tuple[Probabilities, Probabilities]:
    """Return the area under the curve of each class that has both images and others, and each image's contribution to
    their sum, float64 [N].
    """
    from scipy.stats import rankdata

    count = len(true)
    sizes = true.astype(np.int64).sum(0) if true.ndim == 2 else np.bincount(true, minlength=probs.shape[1])
    present = np.flatnonzero((sizes > 0) & (sizes < count))
    areas, shares = np.zeros(len(present)), np.zeros(count)
    for number, k in enumerate(present):
        positive = _is_of(true, k)
        ranks = rankdata(probs[:, k])
        # Placement values: the share of the other side that an image is ranked above, or below.
        above = (ranks[positive] - rankdata(probs[positive, k])) / (~positive).sum()
        below = 1 - (ranks[~positive] - rankdata(probs[~positive, k])) / positive.sum()
        areas[number] = above.mean()
        for side, placed in ((positive, above), (~positive, below)):
            shares[side] += (placed - areas[number]) * count / side.sum()
    return areas, shares
