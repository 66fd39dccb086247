"""The metrics a competition may name, each with an interval that says how much of a score is luck.

A metric takes what it judges and the true classes int64 [N]: the ones in `LABEL_METRICS` judge predicted classes
int64 [N], the ones in `PROBABILITY_METRICS` probabilities float64 [N, K]. The value is scikit-learn's; the 95 %
interval is exact (Clopper-Pearson) where the score counts right images, else from a seeded bootstrap over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.schema import Choice, Count

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Counts = NDArray[np.float64]  # [replicates, K]

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


# ---------------------------------------------------------------------------------------------- of predicted classes


def accuracy(predicted: Labels, true: Labels) -> Score:
    """The part of the images whose class is right, with the exact interval."""
    return _part(predicted == true)


def macro_f1(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of F1, the harmonic mean of precision and recall; every class weighs the same."""
    from sklearn.metrics import f1_score

    value = f1_score(true, predicted, average="macro", zero_division=0)

    def of(actual: Counts, claimed: Counts, right: Counts) -> Any:
        seen = actual + claimed > 0
        return _ratio(2 * right, actual + claimed).sum(1) / seen.sum(1)

    return _bootstrapped(float(value), predicted, true, of)


def micro_f1(predicted: Labels, true: Labels) -> Score:
    """Kaggle's "mean F1": over all images at once, which with one class an image is the accuracy."""
    from sklearn.metrics import f1_score

    exact = _part(predicted == true)
    return Score(float(f1_score(true, predicted, average="micro")), exact.low, exact.high, exact.count)


def weighted_f1(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of F1, each class weighing as many images as it has."""
    from sklearn.metrics import f1_score

    value = f1_score(true, predicted, average="weighted", zero_division=0)

    def of(actual: Counts, claimed: Counts, right: Counts) -> Any:
        return (actual * _ratio(2 * right, actual + claimed)).sum(1) / actual.sum(1)

    return _bootstrapped(float(value), predicted, true, of)


def balanced_accuracy(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of the part of a class's images that is recognised."""
    from sklearn.metrics import recall_score

    value = recall_score(true, predicted, labels=np.unique(true), average="macro")

    def of(actual: Counts, claimed: Counts, right: Counts) -> Any:
        return _ratio(right, actual).sum(1) / (actual > 0).sum(1)

    return _bootstrapped(float(value), predicted, true, of)


def quadratic_kappa(predicted: Labels, true: Labels) -> Score:
    """Agreement beyond chance for ordered classes, a miss by two classes costing four times a miss by one."""
    from sklearn.metrics import cohen_kappa_score

    classes = np.arange(max(predicted.max(), true.max(), 1) + 1)
    certain = len(np.union1d(predicted, true)) == 1  # one class alone: nothing could disagree
    value = 1.0 if certain else cohen_kappa_score(true, predicted, labels=classes, weights="quadratic")
    shift = (predicted - true).astype(np.float64) ** 2
    cells, counts = np.unique(np.stack([true, predicted, shift.astype(np.int64)]), axis=1, return_counts=True)
    truth, claim, cost = cells.astype(np.float64)
    weights = _multinomial(counts)
    observed = weights @ cost
    count = len(true)
    expected = weights @ (truth**2 + claim**2) - 2 * (weights @ truth) * (weights @ claim) / count
    kappas = 1 - np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 1e-9)
    return _interval(float(value), kappas, predicted, true)


# ------------------------------------------------------------------------------------------------- of probabilities


def log_loss(probs: Probabilities, true: Labels) -> Score:
    """The mean of minus the logarithm of what the true class was given, rows rescaled to one; lower is better."""
    from sklearn.metrics import log_loss as sklearn_log_loss

    scaled = normalized(probs)
    value = sklearn_log_loss(true, scaled, labels=np.arange(probs.shape[1]))
    losses = -np.log(scaled[np.arange(len(true)), true])
    means = np.concatenate([weights @ losses / len(true) for weights in _resamples(len(true))])
    low, high = np.quantile(means, [0.025, 0.975])
    return Score(float(value), float(low), float(high), len(true), lower_is_better=True)


def auc(probs: Probabilities, true: Labels) -> Score:
    """The area under the ROC curve of each class against the rest, averaged over the classes that have both.

    The bootstrap resamples each image's share in that average (its placement value: DeLong et al. 1988).
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    count = len(true)
    present = [k for k in range(probs.shape[1]) if 0 < (true == k).sum() < count]
    if not present:
        return Score(0.5, 0.0, 1.0, count)
    areas = np.array([roc_auc_score(true == k, probs[:, k]) for k in present])
    shares = np.zeros(count)
    for k, area in zip(present, areas, strict=True):
        ranks = rankdata(probs[:, k])
        for side, others_below in ((true == k, True), (true != k, False)):
            members = int(side.sum())
            placed = (ranks[side] - rankdata(probs[side, k])) / (count - members)
            placed = placed if others_below else 1 - placed
            shares[side] += (placed - area) * count / members
    means = np.concatenate([weights @ shares for weights in _resamples(count)]) / count / len(present)
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


# ---------------------------------------------------------------------------------------------------------- intervals


def _part(right: NDArray[np.bool_]) -> Score:
    from scipy.stats import binomtest  # 0.4 s to import, and only needed here

    hits, count = int(right.sum()), len(right)
    interval = binomtest(hits, count).proportion_ci(0.95, "exact")
    return Score(hits / count, float(interval.low), float(interval.high), count)


def _bootstrapped(value: float, predicted: Labels, true: Labels, of: Callable[..., Counts]) -> Score:
    """`of` gets float64 [replicates, K] counts of images of each class, of claims of it, and of right claims."""
    classes = np.union1d(predicted, true)
    cells, counts = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    actual = (cells[0][:, None] == classes).astype(np.float64)
    claimed = (cells[1][:, None] == classes).astype(np.float64)
    weights = _multinomial(counts)
    return _interval(value, of(weights @ actual, weights @ claimed, weights @ (actual * claimed)), predicted, true)


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


def _resamples(count: int) -> Iterator[NDArray[np.float64]]:
    """float64 [some replicates, count]: how often each image is drawn, in pieces that fit into the memory."""
    random = _generator()
    step = max(1, min(REPLICATES, CHUNK // count))
    for first in range(0, REPLICATES, step):
        rows = min(step, REPLICATES - first)
        drawn = random.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _generator() -> np.random.Generator:
    from featherweight.randomness import derive  # it imports torch

    return np.random.default_rng(derive(0, "bootstrap"))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Any:
    """`part / whole`, 0 where `whole` is."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
