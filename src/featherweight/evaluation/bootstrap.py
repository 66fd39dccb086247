"""A metric on other images of the same kind: how it hangs on how often each image counts, and seeded resamples of them.

A `Form` takes how often each image counts, float64 [R, N], and gives the metric of each row, float64 [R].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Counts = NDArray[np.float64]  # [R, K], or [R, cells of a confusion]
Form = Callable[[NDArray[np.float64]], NDArray[np.float64]]

REPLICATES = 1000  # of the bootstrap: the ends of the interval then move by about a twentieth of its length
CHUNK = 2**24  # numbers held at once while bootstrapping
SMALLEST = 1e-15  # what Kaggle clips probabilities to before it takes logarithms


def multinomial(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [replicates, cells]: drawing images anew is drawing how many fall into each cell of the confusion."""
    drawn = _generator().multinomial(counts.sum(), counts / counts.sum(), size=REPLICATES)
    return drawn.astype(np.float64)


def resamples(count: int, replicates: int = REPLICATES) -> Iterator[NDArray[np.float64]]:
    """float64 [some replicates, count]: how often each image is drawn, in pieces that fit into the memory."""
    random = _generator()
    step = max(1, min(replicates, CHUNK // count))
    for first in range(0, replicates, step):
        some = min(step, replicates - first)
        drawn = random.integers(count, size=(some, count)) + np.arange(some)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def _generator() -> np.random.Generator:
    from featherweight.runtime.rng import derive  # it imports torch

    return np.random.default_rng(derive(0, "bootstrap"))


def rows(count: int, replicates: int) -> Iterator[NDArray[np.float64]]:
    """`resamples`, one by one: float64 [count]."""
    for weights in resamples(count, replicates):
        yield from weights


def normalized(probs: NDArray[np.floating]) -> Probabilities:
    """Probabilities float64 [N, K] away from 0, each row summing to one."""
    clipped = probs.astype(np.float64).clip(SMALLEST, None)
    scaled: Probabilities = clipped / clipped.sum(1, keepdims=True)
    return scaled


def counted(of: Callable[..., Counts], predicted: Labels, true: Labels) -> Form:
    """The form of a metric `of` three counts, float64 [R, K]: the images of a class, those given it, those rightly."""
    from scipy.sparse import csr_array

    classes, places = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    rows, ones = np.arange(len(true)), np.ones(len(true))
    actual, claimed = (csr_array((ones, (rows, of)), (len(true), len(classes))) for of in np.split(places, 2))
    right = actual.multiply(claimed)
    return lambda weights: of(weights @ actual, weights @ claimed, weights @ right)


def macro_f1(actual: Counts, claimed: Counts, right: Counts) -> Any:
    """Float64 [R] of counts, as `counted` has them."""
    return _ratio(2 * right, actual + claimed).sum(1) / (actual + claimed > 0).sum(1)


def weighted_f1(actual: Counts, claimed: Counts, right: Counts) -> Any:
    """Float64 [R] of counts, as `counted` has them."""
    return (actual * _ratio(2 * right, actual + claimed)).sum(1) / actual.sum(1)


def balanced_accuracy(actual: Counts, claimed: Counts, right: Counts) -> Any:
    """Float64 [R] of counts, as `counted` has them."""
    return _ratio(right, actual).sum(1) / (actual > 0).sum(1)


def kappas(predicted: Labels, true: Labels) -> Form:
    """The form of the quadratic kappa."""
    truth, claim = true.astype(np.float64), predicted.astype(np.float64)

    def of(weights: Counts) -> Counts:
        observed = weights @ (truth - claim) ** 2
        squares, count = weights @ (truth**2 + claim**2), weights.sum(1)
        expected = squares - 2 * (weights @ truth) * (weights @ claim) / count
        kappas: Counts = 1 - np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 1e-9)
        return kappas

    return of


def _mean(values: NDArray[Any]) -> Form:
    return lambda weights: weights @ values.astype(np.float64) / len(values)


def losses(probs: Probabilities, true: Labels) -> Form:
    """The form of the log loss."""
    return _mean(-np.log(normalized(probs)[np.arange(len(true)), true]))


def areas(probs: Probabilities, true: Labels) -> tuple[Probabilities, Probabilities]:
    """The area under the curve of each class that has images and lacks some, and each image's share in their sum."""
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    count = len(true)
    present = [k for k in range(probs.shape[1]) if 0 < (true == k).sum() < count]
    each = np.array([roc_auc_score(true == k, probs[:, k]) for k in present])
    shares = np.zeros(count)
    for k, area in zip(present, each, strict=True):
        ranks = rankdata(probs[:, k])
        for side, others_below in ((true == k, True), (true != k, False)):
            members = int(side.sum())
            placed = (ranks[side] - rankdata(probs[side, k])) / (count - members)
            placed = placed if others_below else 1 - placed
            shares[side] += (placed - area) * count / members
    return each, shares


def _mean_area(probs: Probabilities, true: Labels) -> Form:
    each, shares = areas(probs, true)
    return _mean(each.mean() + shares / len(each) if len(each) else np.full(len(true), 0.5))


def _among_first(probs: Probabilities, true: Labels, *, k: int) -> Form:
    """Of classes given the same, the later ones come first, as scikit-learn has it."""
    first = np.argsort(probs, axis=1, kind="stable")[:, ::-1][:, :k]
    return _mean((first == true[:, None]).any(1))


def _right(predicted: Labels, true: Labels) -> Form:
    return _mean(predicted == true)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Any:
    """`part / whole`, 0 where `whole` is."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


FORMS: dict[str, Callable[..., Form]] = {  # of a metric that judges these, the true classes, and its keys
    "accuracy": _right,
    "macro_f1": partial(counted, macro_f1),
    "micro_f1": _right,
    "weighted_f1": partial(counted, weighted_f1),
    "balanced_accuracy": partial(counted, balanced_accuracy),
    "quadratic_kappa": kappas,
    "log_loss": losses,
    "auc": _mean_area,
    "top_k": _among_first,
}
