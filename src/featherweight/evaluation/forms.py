"""Each metric as a function of how often each image counts.

A form takes what the metric judges and the true classes, int64 [N], and returns a function of weights float64 [R, N]:
the metric of each row, float64 [R]. All ones give the value, resamples the bootstrap; so the two cannot differ.
The keyword-only arguments of a form are the metric's keys in a competition file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.schema import Count

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Counts = NDArray[np.float64]
Form = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SMALLEST = 1e-15  # what Kaggle clips probabilities to before it takes logarithms


def normalized(probs: NDArray[np.floating]) -> Probabilities:
    """Probabilities float64 [N, K] away from 0, each row summing to one."""
    clipped = probs.astype(np.float64).clip(SMALLEST, None)
    scaled: Probabilities = clipped / clipped.sum(1, keepdims=True)
    return scaled


def mean_of(values: NDArray[Any]) -> Form:
    """The form of a mean of one value per image, [N]."""
    numbers = values.astype(np.float64)
    return lambda weights: weights @ numbers / weights.sum(1)


def by_class(of: Callable[[Counts, Counts, Counts], NDArray[np.float64]], predicted: Labels, true: Labels) -> Form:
    """The form of a metric `of` three counts, float64 [R, K]: the images of each class, those predicted as it, and
    those rightly so. K are the classes that occur in either.
    """
    from scipy.sparse import csr_array

    classes, index = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    rows, ones, shape = np.arange(len(true)), np.ones(len(true)), (len(true), len(classes))
    actual, claimed = (csr_array((ones, (rows, columns)), shape) for columns in np.split(index, 2))
    right = actual.multiply(claimed)
    return lambda weights: of(weights @ actual, weights @ claimed, weights @ right)


# ---------------------------------------------------------------------------------------------- of predicted classes


def accuracy(predicted: Labels, true: Labels) -> Form:
    """The part of the images whose class is right."""
    return mean_of(predicted == true)


def macro_f1(predicted: Labels, true: Labels) -> Form:
    """The mean over classes of F1, the harmonic mean of precision and recall; every class weighs the same."""
    return by_class(
        lambda actual, claimed, right: (
            ratio(2 * right, actual + claimed).sum(1) / (actual + claimed > 0).sum(1).clip(1)
        ),
        predicted,
        true,
    )


def micro_f1(predicted: Labels, true: Labels) -> Form:
    """Kaggle's "mean F1": over all images at once, which with one class per image is the accuracy."""
    return accuracy(predicted, true)


def weighted_f1(predicted: Labels, true: Labels) -> Form:
    """The mean over classes of F1, each class weighing as many images as it has."""
    return by_class(
        lambda actual, claimed, right: (actual * ratio(2 * right, actual + claimed)).sum(1) / actual.sum(1),
        predicted,
        true,
    )


def balanced_accuracy(predicted: Labels, true: Labels) -> Form:
    """The mean over classes of the part of a class's images that is recognised."""
    return by_class(
        lambda actual, claimed, right: ratio(right, actual).sum(1) / (actual > 0).sum(1).clip(1), predicted, true
    )


def quadratic_kappa(predicted: Labels, true: Labels) -> Form:
    """Agreement beyond chance for ordered classes, a miss by two classes costing four times a miss by one."""
    truth, claim = true.astype(np.float64), predicted.astype(np.float64)

    def of(weights: Counts) -> NDArray[np.float64]:
        observed = weights @ (truth - claim) ** 2
        squares, count = weights @ (truth**2 + claim**2), weights.sum(1)
        expected = squares - 2 * (weights @ truth) * (weights @ claim) / count
        # One class alone in both: nothing could disagree.
        kappa: NDArray[np.float64] = 1 - ratio(observed, np.where(expected > 1e-9, expected, 0))
        return kappa

    return of


# ------------------------------------------------------------------------------------------------- of probabilities


def log_loss(probs: Probabilities, true: Labels) -> Form:
    """The mean of minus the logarithm of the true class's probability, rows rescaled to one; lower is better."""
    return mean_of(-np.log(normalized(probs)[np.arange(len(true)), true]))


def auc(probs: Probabilities, true: Labels) -> Form:
    """The area under the ROC curve of each class against the rest, averaged over the classes that have both.

    Of weighted images it is the first-order expansion by each image's placement value (DeLong et al. 1988).
    """
    areas, shares = _areas(probs, true)
    return mean_of(areas.mean() + shares / len(areas) if len(areas) else np.full(len(true), 0.5))


def top_k(probs: Probabilities, true: Labels, *, k: Count = 5) -> Form:
    """The part of the images whose class is among the `k` most probable; of equal ones the later classes come first,
    as in scikit-learn.
    """
    first = np.argsort(probs, axis=1, kind="stable")[:, ::-1][:, :k]
    return mean_of((first == true[:, None]).any(1))


def _areas(probs: Probabilities, true: Labels) -> tuple[Probabilities, Probabilities]:
    """The area under the curve of each class that has images and lacks some, and each image's share in their sum."""
    from scipy.stats import rankdata

    count = len(true)
    present = [k for k in range(probs.shape[1]) if 0 < (true == k).sum() < count]
    areas, shares = np.zeros(len(present)), np.zeros(count)
    for number, k in enumerate(present):
        positive, ranks = true == k, rankdata(probs[:, k])
        # The part of the other side that an image is ranked above, or below.
        above = (ranks[positive] - rankdata(probs[positive, k])) / (~positive).sum()
        below = 1 - (ranks[~positive] - rankdata(probs[~positive, k])) / positive.sum()
        areas[number] = above.mean()
        for side, placed in ((positive, above), (~positive, below)):
            shares[side] += (placed - areas[number]) * count / side.sum()
    return areas, shares


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """`part / whole`, 0 where `whole` is."""
    divided: NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return divided
