"""What can be said of images without labels: whether they are of another kind, and how many are probably right.

Three estimates of an accuracy, from the probabilities on labelled images that were not trained on and on unlabelled
ones: average thresholded confidence (ATC, Garg et al. 2022), difference of confidences (DoC, Guillory et al. 2021) and
importance weights by a domain classifier (Shimodaira 2000). Each fails under some shift; `bench coverage --cells`
measures how far they are off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.metrics import METRICS, Groups, Score, grouped

MOST = 3000  # images of each part that the domain classifier learns from
FEWEST = 20  # of each: fewer tell nothing
HEAVIEST = 10.0  # times that an image counts at most

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Features:
    """What a network makes of the `holdout`, [N, F], and of some images to `predict`, [M, F], which of these are kin
    having one number in `kin` [M].
    """

    holdout: NDArray[Any]
    predict: NDArray[Any]
    kin: Groups | None = None


@dataclass(frozen=True)
class Domain:
    """How well unlabelled images can be told from labelled ones: the AUC of a classifier that has not seen them (0.5:
    not at all), and how many times each labelled image counts, float64 [N], for these to be like the unlabelled ones.
    """

    auc: Score
    weights: NDArray[np.float64]

    @property
    def shifted(self) -> bool:
        """Are they of another kind? By more than chance, and by more than makes a difference."""
        return self.auc.low > 0.55


def domain(labelled: Floats, unlabelled: Floats, kin: tuple[Groups | None, Groups | None] = (None, None)) -> Domain:
    """A logistic regression on features [N, F] and [M, F], each image judged by a fit to the other four fifths.

    Images of one number in `kin`, [N] and [M], are in one fifth: else they would be told by those of their group.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random, even = np.random.default_rng(0), np.ones(len(labelled))
    chosen = [np.sort(random.permutation(len(part))[:MOST]) for part in (labelled, unlabelled)]
    if min(map(len, chosen)) < FEWEST:
        return Domain(Score(0.5, 0.0, 1.0, sum(map(len, chosen)), "auc"), even)
    features = np.concatenate([part[places] for part, places in zip((labelled, unlabelled), chosen, strict=True)])
    is_unlabelled = np.repeat([0, 1], [len(places) for places in chosen])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    group = together([None if of is None else of[some] for of, some in zip(kin, chosen, strict=True)], chosen)
    probs, score = told_apart(model, features, is_unlabelled.astype(np.int64), group)
    odds = probs[: len(chosen[0]), 1] / probs[: len(chosen[0]), 0].clip(1e-6) * len(chosen[0]) / len(chosen[1])
    even[chosen[0]] = odds.clip(1 / HEAVIEST, HEAVIEST)
    even[chosen[0]] /= even[chosen[0]].mean()
    return Domain(score, even)


def together(kin: Sequence[Groups | None], parts: Sequence[Sequence[Any] | NDArray[Any]]) -> Groups | None:
    """The groups of several parts as those of one, int64 [N + M]; None where nothing is related."""
    if all(grouped(of) is None for of in kin):
        return None
    numbers: list[NDArray[np.int64]] = []
    for of, part in zip(kin, parts, strict=True):
        own = np.arange(len(part)) if of is None else np.unique(of, return_inverse=True)[1]
        numbers.append(own + (numbers[-1].max() + 1 if numbers and len(numbers[-1]) else 0))
    return np.concatenate(numbers)


def told_apart(
    model: Any, features: Floats, sides: NDArray[np.int64], group: Groups | None
) -> tuple[NDArray[np.float64], Score]:
    """Probabilities [N, 2] of the side of each image by a model fitted to other fifths of groups; their AUC."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

    kind = StratifiedKFold if group is None else StratifiedGroupKFold
    folds = list(kind(5, shuffle=True, random_state=0).split(features, sides, group))
    probs: NDArray[np.float64] = cross_val_predict(model, features, sides, cv=folds, method="predict_proba")
    return probs, METRICS["auc"](probs, sides, group)


def estimates(
    labelled: Floats, right: NDArray[np.bool_], unlabelled: Floats, weights: NDArray[np.float64]
) -> dict[str, float]:
    """By name what part of the unlabelled images is probably right.

    `labelled` are probabilities [N, K] whose answers are `right` [N] or not, `unlabelled` [M, K]; `weights` those of
    `Domain`.
    """
    sure, test = labelled.max(1), unlabelled.max(1)
    threshold = np.quantile(sure, 1 - right.mean(), method="higher") if right.mean() > 0 else np.inf
    return {
        "ATC": float((test >= threshold).mean()),
        "DoC": float(np.clip(right.mean() - sure.mean() + test.mean(), 0, 1)),
        "importance weights": float(weights @ right / weights.sum()),
    }


def agreement(one: Floats, other: Floats) -> float:
    """The part of images of which two networks' probabilities [N, K] say the same class."""
    return float((one.argmax(1) == other.argmax(1)).mean())
