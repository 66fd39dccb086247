"""Metrics of classes as functions of how often each image counts.

Each function takes predictions and the truth, classes int64 [N] or sets of them, 0 and 1 [N, K], and returns a function
of weights float64 [R, N] that gives the metric of each row, float64 [R]. A row of ones gives the value, resamples give
the bootstrap, so the two cannot disagree. The keyword-only arguments are the metric's keys in a competition file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.bootstrap import Groups
from featherweight.schema import Positive

Labels = NDArray[np.int64]
Answers = NDArray[Any]  # classes int64 [N], or sets of 0 and 1 [N, K]
Probabilities = NDArray[np.float64]
Counts = NDArray[np.float64]
WeightedMetric = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Mean:
    """A metric that is a mean of one value per image, float64 [N]; `weights` [N] are the images' own weights in it."""

    values: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None

    def __call__(self, weights: Counts) -> NDArray[np.float64]:  # noqa: D102
        counted = weights if self.weights is None else weights * self.weights
        mean: NDArray[np.float64] = counted @ self.values / counted.sum(1)
        return mean

    @property
    def contributions(self) -> NDArray[np.float64]:
        """Its pseudo-values float64 [N]; first-order ones if the images weigh differently."""
        if self.weights is None:
            return self.values
        mean = self.weights @ self.values / self.weights.sum()
        contributions: NDArray[np.float64] = mean + self.weights / self.weights.mean() * (self.values - mean)
        return contributions


def mean_of(values: NDArray[Any]) -> WeightedMetric:
    """Return the metric that is the mean of one value per image, [N]."""
    return Mean(values.astype(np.float64))


def by_class(
    of: Callable[[Counts, Counts, Counts], NDArray[np.float64]], answers: Answers, true: Answers
) -> WeightedMetric:
    """Return the metric `of` three counts by class, float64 [R, K]: the images of each class, those answered as it, and
    those answered so rightly. For classes [N], K are those that occur in either; for sets [N, K] all.
    """
    actual, claimed = _members(true, answers)
    right = actual * claimed if isinstance(actual, np.ndarray) else actual.multiply(claimed)
    return lambda weights: of(weights @ actual, weights @ claimed, weights @ right)


def _members(true: Answers, answers: Answers) -> tuple[Any, Any]:
    """Return which images are of each class and which are answered as it, 0 and 1 [N, K]; sparse for single classes."""
    if true.ndim == 2:
        return true.astype(np.float64), answers.astype(np.float64)
    classes, index = np.unique(np.concatenate([true, answers]), return_inverse=True)
    actual, claimed = (indicators(columns, len(classes)) for columns in np.split(index, 2))
    return actual, claimed


def indicators(labels: Labels, classes: int) -> Any:
    """Return which images are of each class, a sparse array of 0 and 1 [N, K], from classes int64 [N]."""
    from scipy.sparse import csr_array

    rows, shape = np.arange(len(labels)), (len(labels), classes)
    return csr_array((np.ones(len(labels)), (rows, labels)), shape)


def fbeta(actual: Counts, claimed: Counts, right: Counts, beta: float = 1.0) -> NDArray[np.float64]:
    """Return F-beta of counts: beta over 1 weighs recall more, under 1 precision; 0 for a class without images."""
    return ratio((1 + beta**2) * right, beta**2 * actual + claimed)


def effective_images(true: Answers, group: Groups | None = None) -> float:
    """Return the effective number of images, or groups, behind a mean over classes: the harmonic mean of the class
    sizes times the number of classes, since each class weighs the same and rare ones decide.
    """
    if group is None:
        sizes = true.sum(0) if true.ndim == 2 else np.unique(true, return_counts=True)[1]
        sizes = np.minimum(sizes, len(true) - sizes)
    else:
        member = true.astype(bool) if true.ndim == 2 else true[:, None] == np.unique(true)
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        some = np.logical_or.reduceat(member[order], starts, axis=0).sum(0)
        others = np.logical_or.reduceat(~member[order], starts, axis=0).sum(0)
        sizes = np.minimum(some, others)
    sizes = sizes[sizes > 0]
    return float(len(sizes) ** 2 / (1 / sizes).sum()) if len(sizes) else 1.0


# ------------------------------------------------------------------- of answers: classes int64 [N] or sets [N, K]


def accuracy(answers: Answers, true: Answers) -> WeightedMetric:
    """Share of the images whose class, or whole set of classes, is right."""
    right = answers == true
    return mean_of(right.all(1) if true.ndim == 2 else right)


def macro_fbeta(answers: Answers, true: Answers, *, beta: Positive = 2.0) -> WeightedMetric:
    """Macro-averaged F-beta: the unweighted mean over classes."""

    def of(actual: Counts, claimed: Counts, right: Counts) -> NDArray[np.float64]:
        # For sets every class counts, as in scikit-learn; for single classes those that occur.
        count = actual.shape[1] if true.ndim == 2 else (actual + claimed > 0).sum(1).clip(1)
        mean: NDArray[np.float64] = fbeta(actual, claimed, right, beta).sum(1) / count
        return mean

    return by_class(of, answers, true)


def macro_f1(answers: Answers, true: Answers) -> WeightedMetric:
    """Macro-averaged F1: the unweighted mean over classes of the harmonic mean of precision and recall."""
    return macro_fbeta(answers, true, beta=1.0)


def micro_fbeta(answers: Answers, true: Answers, *, beta: Positive = 2.0) -> WeightedMetric:
    """Micro-averaged F-beta: over all images and classes at once; with one class per image it is the accuracy."""
    if true.ndim == 1:
        return accuracy(answers, true)

    def of(actual: Counts, claimed: Counts, right: Counts) -> NDArray[np.float64]:
        return fbeta(actual.sum(1), claimed.sum(1), right.sum(1), beta)

    return by_class(of, answers, true)


def micro_f1(answers: Answers, true: Answers) -> WeightedMetric:
    """Micro-averaged F1; with one class per image it is the accuracy, which Kaggle calls "mean F1" there."""
    return micro_fbeta(answers, true, beta=1.0)


def weighted_f1(answers: Answers, true: Answers) -> WeightedMetric:
    """Mean F1 over classes, weighted by the number of their images."""
    return by_class(
        lambda actual, claimed, right: ratio((actual * fbeta(actual, claimed, right)).sum(1), actual.sum(1)),
        answers,
        true,
    )


def samples_fbeta(answers: Answers, true: Answers, *, beta: Positive = 2.0) -> WeightedMetric:
    """Mean F-beta over images, of each image's set of classes; 0 if both sets are empty, as in scikit-learn."""
    right = (answers * true).sum(1).astype(np.float64)
    return mean_of(fbeta(true.sum(1).astype(np.float64), answers.sum(1).astype(np.float64), right, beta))


def samples_f1(answers: Answers, true: Answers) -> WeightedMetric:
    """Mean F1 over images, of each image's set of classes."""
    return samples_fbeta(answers, true, beta=1.0)


def balanced_accuracy(predicted: Labels, true: Labels) -> WeightedMetric:
    """Mean recall over classes."""
    return by_class(
        lambda actual, claimed, right: ratio(right, actual).sum(1) / (actual > 0).sum(1).clip(1), predicted, true
    )


def matthews(predicted: Labels, true: Labels) -> WeightedMetric:
    """Matthews correlation coefficient, from -1 to 1 (Gorodkin 2004 for more than two classes)."""

    def of(actual: Counts, claimed: Counts, right: Counts) -> NDArray[np.float64]:
        count = actual.sum(1)
        both = right.sum(1) * count - (actual * claimed).sum(1)
        spread = np.sqrt((count**2 - (actual**2).sum(1)) * (count**2 - (claimed**2).sum(1)))
        return ratio(both, spread)

    return by_class(of, predicted, true)


def quadratic_kappa(predicted: Labels, true: Labels) -> WeightedMetric:
    """Quadratic weighted kappa: agreement beyond chance for ordered classes; errors count by their squared distance."""
    truth, claim = true.astype(np.float64), predicted.astype(np.float64)

    def of(weights: Counts) -> NDArray[np.float64]:
        observed = weights @ (truth - claim) ** 2
        squares, count = weights @ (truth**2 + claim**2), weights.sum(1)
        expected = squares - 2 * (weights @ truth) * (weights @ claim) / count
        # One class alone in both: there can be no disagreement.
        kappa: NDArray[np.float64] = 1 - ratio(observed, np.where(expected > 1e-9, expected, 0))
        return kappa

    return of


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `part / whole`, and 0 where `whole` is 0."""
    divided: NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return divided
