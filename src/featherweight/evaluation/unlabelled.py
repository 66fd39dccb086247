"""What can be said of images without labels: whether they are shifted, and how many are probably answered rightly.

Three estimates of the accuracy, from probabilities on labelled images that were not trained on and on unlabelled ones:
average thresholded confidence (ATC, Garg et al. 2022), difference of confidences (DoC, Guillory et al. 2021) and
importance weights by a domain classifier (Shimodaira 2000). Each fails under some shift; `bench coverage --cells`
measures their errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.bootstrap import Groups, independent, numbered
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import METRICS, Score

MOST_IMAGES = 3000  # images of each part that the domain classifier is fitted to
FEWEST_IMAGES = 20  # images of each part; with fewer no shift is looked for
FOLDS = 5  # of the cross-validation; with fewer groups of related images in a part no shift is looked for either
DRAWS = 20  # of true classes from probabilities
HEAVIEST = 10.0  # largest importance weight before normalisation

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class DomainFeatures:
    """Features of the holdout, [N, F], and of a sample of the images to predict, [M, F], and the latter's groups int64
    [M].
    """

    holdout: NDArray[Any]
    predict: NDArray[Any]
    groups: Groups | None = None


@dataclass(frozen=True)
class Domain:
    """How well a classifier tells unlabelled from labelled images.

    Attributes:
        auc: of a cross-validated classifier; 0.5 if it cannot tell them.
        weights: importance weights of the labelled images, float64 [N], under which they resemble the unlabelled ones.
    """

    auc: Score
    weights: NDArray[np.float64]

    @property
    def shifted(self) -> bool:
        """True if they differ by more than chance, and by more than makes a difference."""
        return self.auc.low > 0.55


def domain(labelled: Floats, unlabelled: Floats, groups: tuple[Groups | None, Groups | None] = (None, None)) -> Domain:
    """Fit a logistic regression on features [N, F] and [M, F] that tells the two apart, by cross-validation in FOLDS.

    Images with the same number in `groups`, [N] and [M], share a fold, since they would be recognised by their
    relatives.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random, even = np.random.default_rng(0), np.ones(len(labelled))
    chosen = [np.sort(random.permutation(len(part))[:MOST_IMAGES]) for part in (labelled, unlabelled)]
    chosen_groups = [None if of is None else of[some] for of, some in zip(groups, chosen, strict=True)]
    if min(map(len, chosen)) < FEWEST_IMAGES or too_few_groups(chosen_groups, chosen):
        return Domain(Score(0.5, 0.0, 1.0, sum(map(len, chosen)), "auc"), even)
    features = np.concatenate([part[places] for part, places in zip((labelled, unlabelled), chosen, strict=True)])
    is_unlabelled = np.repeat([0, 1], [len(places) for places in chosen])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    group = concatenated(chosen_groups, chosen)
    probs, score = cross_validated(model, features, is_unlabelled.astype(np.int64), group)
    odds = probs[: len(chosen[0]), 1] / probs[: len(chosen[0]), 0].clip(1e-6) * len(chosen[0]) / len(chosen[1])
    even[chosen[0]] = odds.clip(1 / HEAVIEST, HEAVIEST)
    even[chosen[0]] /= even[chosen[0]].mean()
    return Domain(score, even)


def too_few_groups(groups: Sequence[Groups | None], parts: Sequence[Sequence[Any] | NDArray[Any]]) -> bool:
    """True if one of several parts has fewer groups of related images, or images, than there are folds: a classifier
    would learn without it, or recognise the few.
    """
    return min(independent(len(part), of) for of, part in zip(groups, parts, strict=True)) < FOLDS


def concatenated(groups: Sequence[Groups | None], parts: Sequence[Sequence[Any] | NDArray[Any]]) -> Groups | None:
    """Return the groups of several parts as those of their concatenation, int64 [N + M]; None if none are related."""
    if all(numbered(of) is None for of in groups):
        return None
    numbers: list[NDArray[np.int64]] = []
    for of, part in zip(groups, parts, strict=True):
        own = np.arange(len(part)) if of is None else np.unique(of, return_inverse=True)[1]
        numbers.append(own + (numbers[-1].max() + 1 if numbers and len(numbers[-1]) else 0))
    return np.concatenate(numbers)


def cross_validated(
    model: Any, features: Floats, sides: NDArray[np.int64], group: Groups | None
) -> tuple[NDArray[np.float64], Score]:
    """Return cross-validated probabilities [N, 2] of each image's side, each group in one fold, and their AUC."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

    kind = StratifiedKFold if group is None else StratifiedGroupKFold
    folds = list(kind(FOLDS, shuffle=True, random_state=0).split(features, sides, group))
    probs: NDArray[np.float64] = cross_val_predict(model, features, sides, cv=folds, method="predict_proba")
    return probs, METRICS["auc"](probs, sides, groups=group)


def estimates(
    labelled: Floats, right: NDArray[np.bool_], unlabelled: Floats, weights: NDArray[np.float64]
) -> dict[str, float]:
    """Return estimates of the accuracy on unlabelled images, by name.

    `labelled` are probabilities [N, K] with correctness `right` [N], `unlabelled` [M, K]; `weights` are those of
    `Domain`.
    """
    sure, test = labelled.max(1), unlabelled.max(1)
    threshold = np.quantile(sure, 1 - right.mean(), method="higher") if right.mean() > 0 else np.inf
    return {
        "ATC": float((test >= threshold).mean()),
        "DoC": float(np.clip(right.mean() - sure.mean() + test.mean(), 0, 1)),
        "importance weights": float(weights @ right / weights.sum()),
    }


def gain_of_mean(
    members: Sequence[Floats],
    mean: Floats,
    calibrated: Floats,
    score: Callable[[Floats, Answers], float],
    *,
    several: bool,
) -> float:
    """Return by how much better the mean of several models' probabilities [N, K] scores than each model, on average.

    The true classes, or sets of them if images have `several`, are drawn from the `calibrated` mean [N, K]: where the
    models disagree, the mean is right more often than each. At most MOST_IMAGES images are used.
    """
    random, gains = np.random.default_rng(0), []
    some = np.sort(random.permutation(len(mean))[:MOST_IMAGES])
    members, mean, calibrated = [one[some] for one in members], mean[some], calibrated[some].astype(np.float64)
    reached = calibrated.cumsum(1)
    for _ in range(DRAWS):
        if several:
            true = (random.random(mean.shape) < calibrated).astype(np.uint8)
        else:
            true = (reached < random.random((len(mean), 1)) * reached[:, -1:]).sum(1)
        gains.append(score(mean, true) - float(np.mean([score(one, true) for one in members])))
    return float(np.mean(gains))


def agreement(one: Floats, other: Floats) -> float:
    """Return the share of images for which two networks' probabilities [N, K] give the same class."""
    return float((one.argmax(1) == other.argmax(1)).mean())
