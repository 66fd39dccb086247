"""The metrics a competition may name, each with an interval that says how much of a score is luck.

A metric takes what it judges and the true classes int64 [N]: the ones in `LABEL_METRICS` judge predicted classes
int64 [N], the ones in `PROBABILITY_METRICS` probabilities float64 [N, K]. The value is scikit-learn's; the 95 %
interval is exact (Clopper-Pearson) where the score counts right images, else from a seeded bootstrap over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.schema import Choice, Count

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Counts = NDArray[np.float64]  # [replicates, K]
Form = Callable[[NDArray[np.float64]], NDArray[np.float64]]

REPLICATES = 1000  # of the bootstrap: the ends of the interval then move by about a twentieth of its length
CHUNK = 2**24  # numbers held at once while bootstrapping
SMALLEST = 1e-15  # what Kaggle clips probabilities to before it takes logarithms


@dataclass(frozen=True)
class Score:
    """A score and the ends of its 95 % interval over `count` images; fractions (0.9 is 90 %) unless lower is better."""

    value: float
    low: float
    high: float
    count: int
    lower_is_better: bool = False

    def __str__(self) -> str:
        value, low, high = (spelled(end, self.lower_is_better) for end in (self.value, self.low, self.high))
        return f"{value} (95 % interval {low} to {high}, {self.count:,} images)"


def spelled(value: float, lower_is_better: bool) -> str:
    """A score in figures: percent, or a plain number for a loss."""
    return f"{value:.4f}" if lower_is_better else f"{value:.2%}"


def judge(metric: Choice, given: Labels | Probabilities, true: Labels) -> Score:
    """`metric` of probabilities [N, K], or of predicted classes [N] where it judges those."""
    if metric.name in PROBABILITY_METRICS and given.ndim != 2:
        raise ValueError(f"{metric.name} judges probabilities, not classes")
    result: Score = metric(given.argmax(1) if given.ndim == 2 and metric.name in LABEL_METRICS else given, true)
    return result


def value(metric: Choice, given: Labels | Probabilities, true: Labels) -> float:
    """`judge` without the interval, a bootstrap that would take a learning curve of 100 classes a second an epoch.

    A metric that RESAMPLED lacks is judged with it.
    """
    quick = RESAMPLED.get(metric.name)
    if quick is None:
        return judge(metric, given, true).value
    judged = given.argmax(1) if given.ndim == 2 and metric.name in LABEL_METRICS else given
    return float(quick(judged, true, **metric.arguments)(np.ones((1, len(true))))[0])


def spoken(metric: str) -> str:
    """A metric's name in a sentence."""
    return metric.replace("_", " ").replace("f1", "F1")


# ---------------------------------------------------------------------------------------------- of predicted classes


def accuracy(predicted: Labels, true: Labels) -> Score:
    """The part of the images whose class is right, with the exact interval."""
    return _part(predicted == true)


def macro_f1(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of F1, the harmonic mean of precision and recall; every class weighs the same."""
    from sklearn.metrics import f1_score

    value = f1_score(true, predicted, average="macro", zero_division=0)

    return _bootstrapped(float(value), predicted, true, _macro_f1)


def micro_f1(predicted: Labels, true: Labels) -> Score:
    """Kaggle's "mean F1": over all images at once, which with one class an image is the accuracy."""
    from sklearn.metrics import f1_score

    exact = _part(predicted == true)
    return Score(float(f1_score(true, predicted, average="micro")), exact.low, exact.high, exact.count)


def weighted_f1(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of F1, each class weighing as many images as it has."""
    from sklearn.metrics import f1_score

    value = f1_score(true, predicted, average="weighted", zero_division=0)

    return _bootstrapped(float(value), predicted, true, _weighted_f1)


def balanced_accuracy(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of the part of a class's images that is recognised."""
    from sklearn.metrics import recall_score

    value = recall_score(true, predicted, labels=np.unique(true), average="macro")

    return _bootstrapped(float(value), predicted, true, _balanced_accuracy)


def quadratic_kappa(predicted: Labels, true: Labels) -> Score:
    """Agreement beyond chance for ordered classes, a miss by two classes costing four times a miss by one."""
    from sklearn.metrics import cohen_kappa_score

    classes = np.arange(max(predicted.max(), true.max(), 1) + 1)
    certain = len(np.union1d(predicted, true)) == 1  # one class alone: nothing could disagree
    value = 1.0 if certain else cohen_kappa_score(true, predicted, labels=classes, weights="quadratic")
    cells, counts = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    return _interval(float(value), _kappas(cells[1], cells[0])(_multinomial(counts)), predicted, true)


# ------------------------------------------------------------------------------------------------- of probabilities


def log_loss(probs: Probabilities, true: Labels) -> Score:
    """The mean of minus the logarithm of what the true class was given, rows rescaled to one; lower is better."""
    from sklearn.metrics import log_loss as sklearn_log_loss

    value = sklearn_log_loss(true, normalized(probs), labels=np.arange(probs.shape[1]))
    of = _losses(probs, true)
    means = np.concatenate([of(weights) for weights in _resamples(len(true))])
    low, high = np.quantile(means, [0.025, 0.975])
    return Score(float(value), float(low), float(high), len(true), lower_is_better=True)


def auc(probs: Probabilities, true: Labels) -> Score:
    """The area under the ROC curve of each class against the rest, averaged over the classes that have both.

    The bootstrap resamples each image's share in that average (its placement value: DeLong et al. 1988).
    """
    areas, shares = _areas(probs, true)
    count = len(true)
    if not len(areas):
        return Score(0.5, 0.0, 1.0, count)
    means = np.concatenate([weights @ shares for weights in _resamples(count)]) / count / len(areas)
    low, high = (np.quantile(means, [0.025, 0.975]) + areas.mean()).clip(0, 1)
    return Score(float(areas.mean()), float(low), float(high), count)


def top_k(probs: Probabilities, true: Labels, *, k: Count = 5) -> Score:
    """The part of the images whose class is among the `k` most probable, with the exact interval."""
    from sklearn.metrics import top_k_accuracy_score

    classes = probs.shape[1]
    if k >= classes:
        return _part(np.ones(len(true), dtype=bool))
    given = probs[:, 1] if classes == 2 else probs
    right = top_k_accuracy_score(true, given, k=k, labels=np.arange(classes), normalize=False)
    return _part(np.arange(len(true)) < round(right))


def normalized(probs: NDArray[np.floating]) -> Probabilities:
    """Probabilities float64 [N, K] away from 0, each row summing to one."""
    clipped = probs.astype(np.float64).clip(SMALLEST, None)
    scaled: Probabilities = clipped / clipped.sum(1, keepdims=True)
    return scaled


LABEL_METRICS: dict[str, Callable[..., Score]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "weighted_f1": weighted_f1,
    "balanced_accuracy": balanced_accuracy,
    "quadratic_kappa": quadratic_kappa,
}
PROBABILITY_METRICS: dict[str, Callable[..., Score]] = {
    "log_loss": log_loss,
    "auc": auc,
    "top_k": top_k,
}
METRICS = LABEL_METRICS | PROBABILITY_METRICS
LOWER_IS_BETTER = frozenset({"log_loss"})


# ---------------------------------------------------------------------------------------------------------- resamples


def resampled(metric: Choice, given: Sequence[Probabilities], true: Labels, replicates: int) -> NDArray[np.float64]:
    """float64 [G, replicates]: `metric` of each of G classifiers' probabilities [N, K] on resamples of the images, in
    every resample the same images for all, so that the differences are those of a paired bootstrap.

    A metric that RESAMPLED lacks is judged anew on every resample, which takes some milliseconds each.
    """
    quick = RESAMPLED.get(metric.name)
    if quick is None:
        places = (np.repeat(np.arange(len(true)), row.astype(np.int64)) for row in _rows(len(true), replicates))
        return np.array([[judge(metric, each[drawn], true[drawn]).value for each in given] for drawn in places]).T
    judged = (each.argmax(1) if metric.name in LABEL_METRICS else each for each in given)
    forms = [quick(each, true, **metric.arguments) for each in judged]
    pieces = [[of(weights) for of in forms] for weights in _resamples(len(true), replicates)]
    return np.concatenate(pieces, axis=1)


def _rows(count: int, replicates: int) -> Iterator[NDArray[np.float64]]:
    for weights in _resamples(count, replicates):
        yield from weights


def _counted(of: Callable[..., Counts], predicted: Labels, true: Labels) -> Form:
    from scipy.sparse import csr_array

    classes, places = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    rows, ones = np.arange(len(true)), np.ones(len(true))
    actual, claimed = (csr_array((ones, (rows, of)), (len(true), len(classes))) for of in np.split(places, 2))
    right = actual.multiply(claimed)
    return lambda weights: of(weights @ actual, weights @ claimed, weights @ right)


def _macro_f1(actual: Counts, claimed: Counts, right: Counts) -> Any:
    return _ratio(2 * right, actual + claimed).sum(1) / (actual + claimed > 0).sum(1)


def _weighted_f1(actual: Counts, claimed: Counts, right: Counts) -> Any:
    return (actual * _ratio(2 * right, actual + claimed)).sum(1) / actual.sum(1)


def _balanced_accuracy(actual: Counts, claimed: Counts, right: Counts) -> Any:
    return _ratio(right, actual).sum(1) / (actual > 0).sum(1)


def _kappas(predicted: Labels, true: Labels) -> Form:
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


def _losses(probs: Probabilities, true: Labels) -> Form:
    return _mean(-np.log(normalized(probs)[np.arange(len(true)), true]))


def _areas(probs: Probabilities, true: Labels) -> tuple[Probabilities, Probabilities]:
    """The area under the curve of each class that has images and lacks some, and each image's share in their sum."""
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    count = len(true)
    present = [k for k in range(probs.shape[1]) if 0 < (true == k).sum() < count]
    areas = np.array([roc_auc_score(true == k, probs[:, k]) for k in present])
    shares = np.zeros(count)
    for k, area in zip(present, areas, strict=True):
        ranks = rankdata(probs[:, k])
        for side, others_below in ((true == k, True), (true != k, False)):
            members = int(side.sum())
            placed = (ranks[side] - rankdata(probs[side, k])) / (count - members)
            placed = placed if others_below else 1 - placed
            shares[side] += (placed - area) * count / members
    return areas, shares


def _mean_area(probs: Probabilities, true: Labels) -> Form:
    areas, shares = _areas(probs, true)
    return _mean(areas.mean() + shares / len(areas) if len(areas) else np.full(len(true), 0.5))


def _among_first(probs: Probabilities, true: Labels, *, k: int) -> Form:
    """Of classes given the same, the later ones come first, as scikit-learn has it."""
    first = np.argsort(probs, axis=1, kind="stable")[:, ::-1][:, :k]
    return _mean((first == true[:, None]).any(1))


def _right(predicted: Labels, true: Labels) -> Form:
    return _mean(predicted == true)


RESAMPLED: dict[str, Callable[..., Form]] = {  # how often each image is drawn, float64 [R, N], to the metric of these
    "accuracy": _right,
    "macro_f1": partial(_counted, _macro_f1),
    "micro_f1": _right,
    "weighted_f1": partial(_counted, _weighted_f1),
    "balanced_accuracy": partial(_counted, _balanced_accuracy),
    "quadratic_kappa": _kappas,
    "log_loss": _losses,
    "auc": _mean_area,
    "top_k": _among_first,
}


# ---------------------------------------------------------------------------------------------------------- intervals


def _part(right: NDArray[np.bool_]) -> Score:
    from scipy.stats import binomtest  # 0.4 s to import, and only needed here

    hits, count = int(right.sum()), len(right)
    interval = binomtest(hits, count).proportion_ci(0.95, "exact")
    return Score(hits / count, float(interval.low), float(interval.high), count)


def _bootstrapped(value: float, predicted: Labels, true: Labels, of: Callable[..., Counts]) -> Score:
    """`of` gets float64 [replicates, K] counts of images of each class, of claims of it, and of right claims."""
    cells, counts = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    return _interval(value, _counted(of, cells[1], cells[0])(_multinomial(counts)), predicted, true)


def _interval(value: float, replicates: Probabilities, predicted: Labels, true: Labels) -> Score:
    low, high = np.quantile(replicates, [0.025, 0.975])
    exact = _part(predicted == true)
    if exact.value == 1.0:  # every resample of a flawless score is flawless, which says nothing
        low = exact.low
    return Score(value, float(low), float(high), len(true))


def _multinomial(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [replicates, cells]: drawing images anew is drawing how many fall into each cell of the confusion."""
    drawn = _generator().multinomial(counts.sum(), counts / counts.sum(), size=REPLICATES)
    return drawn.astype(np.float64)


def _resamples(count: int, replicates: int = REPLICATES) -> Iterator[NDArray[np.float64]]:
    """float64 [some replicates, count]: how often each image is drawn, in pieces that fit into the memory."""
    random = _generator()
    step = max(1, min(replicates, CHUNK // count))
    for first in range(0, replicates, step):
        rows = min(step, replicates - first)
        drawn = random.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _generator() -> np.random.Generator:
    from featherweight.randomness import derive  # it imports torch

    return np.random.default_rng(derive(0, "bootstrap"))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Any:
    """`part / whole`, 0 where `whole` is."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
