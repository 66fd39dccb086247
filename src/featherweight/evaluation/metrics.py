"""The metrics a competition may name, each with an interval that says how much of a score is luck.

A metric takes what it judges and the true classes int64 [N]: the ones in `LABEL_METRICS` judge predicted classes
int64 [N], the ones in `PROBABILITY_METRICS` probabilities float64 [N, K]. The value is scikit-learn's; the 95 %
interval is exact (Clopper-Pearson) where the score counts right images, else from a seeded bootstrap over images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation import bootstrap
from featherweight.evaluation.bootstrap import FORMS, Counts, Labels, Probabilities, normalized
from featherweight.schema import Choice, Count


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

    A metric that FORMS lacks is judged with it.
    """
    quick = FORMS.get(metric.name)
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

    return _bootstrapped(float(value), predicted, true, bootstrap.macro_f1)


def micro_f1(predicted: Labels, true: Labels) -> Score:
    """Kaggle's "mean F1": over all images at once, which with one class an image is the accuracy."""
    from sklearn.metrics import f1_score

    exact = _part(predicted == true)
    return Score(float(f1_score(true, predicted, average="micro")), exact.low, exact.high, exact.count)


def weighted_f1(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of F1, each class weighing as many images as it has."""
    from sklearn.metrics import f1_score

    value = f1_score(true, predicted, average="weighted", zero_division=0)

    return _bootstrapped(float(value), predicted, true, bootstrap.weighted_f1)


def balanced_accuracy(predicted: Labels, true: Labels) -> Score:
    """The mean over classes of the part of a class's images that is recognised."""
    from sklearn.metrics import recall_score

    value = recall_score(true, predicted, labels=np.unique(true), average="macro")

    return _bootstrapped(float(value), predicted, true, bootstrap.balanced_accuracy)


def quadratic_kappa(predicted: Labels, true: Labels) -> Score:
    """Agreement beyond chance for ordered classes, a miss by two classes costing four times a miss by one."""
    from sklearn.metrics import cohen_kappa_score

    classes = np.arange(max(predicted.max(), true.max(), 1) + 1)
    certain = len(np.union1d(predicted, true)) == 1  # one class alone: nothing could disagree
    value = 1.0 if certain else cohen_kappa_score(true, predicted, labels=classes, weights="quadratic")
    cells, counts = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    drawn = bootstrap.kappas(cells[1], cells[0])(bootstrap.multinomial(counts))
    return _interval(float(value), drawn, predicted, true)


# ------------------------------------------------------------------------------------------------- of probabilities


def log_loss(probs: Probabilities, true: Labels) -> Score:
    """The mean of minus the logarithm of what the true class was given, rows rescaled to one; lower is better."""
    from sklearn.metrics import log_loss as sklearn_log_loss

    value = sklearn_log_loss(true, normalized(probs), labels=np.arange(probs.shape[1]))
    of = bootstrap.losses(probs, true)
    means = np.concatenate([of(weights) for weights in bootstrap.resamples(len(true))])
    low, high = np.quantile(means, [0.025, 0.975])
    return Score(float(value), float(low), float(high), len(true), lower_is_better=True)


def auc(probs: Probabilities, true: Labels) -> Score:
    """The area under the ROC curve of each class against the rest, averaged over the classes that have both.

    The bootstrap resamples each image's share in that average (its placement value: DeLong et al. 1988).
    """
    areas, shares = bootstrap.areas(probs, true)
    count = len(true)
    if not len(areas):
        return Score(0.5, 0.0, 1.0, count)
    means = np.concatenate([weights @ shares for weights in bootstrap.resamples(count)]) / count / len(areas)
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


# ---------------------------------------------------------------------------------------------- of resampled images


def resampled(metric: Choice, given: Sequence[Probabilities], true: Labels, replicates: int) -> NDArray[np.float64]:
    """float64 [G, replicates]: `metric` of each of G classifiers' probabilities [N, K] on resamples of the images, in
    every resample the same images for all, so that the differences are those of a paired bootstrap.

    A metric that FORMS lacks is judged anew on every resample, which takes some milliseconds each.
    """
    quick = FORMS.get(metric.name)
    if quick is None:
        drawn = bootstrap.rows(len(true), replicates)
        places = (np.repeat(np.arange(len(true)), row.astype(np.int64)) for row in drawn)
        return np.array([[judge(metric, each[at], true[at]).value for each in given] for at in places]).T
    judged = (each.argmax(1) if metric.name in LABEL_METRICS else each for each in given)
    forms = [quick(each, true, **metric.arguments) for each in judged]
    pieces = [[of(weights) for of in forms] for weights in bootstrap.resamples(len(true), replicates)]
    return np.concatenate(pieces, axis=1)


def _part(right: NDArray[np.bool_]) -> Score:
    from scipy.stats import binomtest  # 0.4 s to import, and only needed here

    hits, count = int(right.sum()), len(right)
    interval = binomtest(hits, count).proportion_ci(0.95, "exact")
    return Score(hits / count, float(interval.low), float(interval.high), count)


def _bootstrapped(value: float, predicted: Labels, true: Labels, of: Callable[..., Counts]) -> Score:
    """`of` gets float64 [replicates, K] counts of images of each class, of claims of it, and of right claims."""
    cells, counts = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    return _interval(value, bootstrap.counted(of, cells[1], cells[0])(bootstrap.multinomial(counts)), predicted, true)


def _interval(value: float, replicates: Probabilities, predicted: Labels, true: Labels) -> Score:
    low, high = np.quantile(replicates, [0.025, 0.975])
    exact = _part(predicted == true)
    if exact.value == 1.0:  # every resample of a flawless score is flawless, which says nothing
        low = exact.low
    return Score(value, float(low), float(high), len(true))
