"""The bias of a stratified part with few images per class, and the interval that allows for it.

A random holdout has its own class frequencies. A stratified one has those of the training images, chance included, and
a network that is unsure prefers the classes with more of these: it is scored most on what it prefers. A random holdout
is no cure: of classes that are equally large on purpose it has most of those that lack training images, and is too bad.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation import bootstrap, metrics
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score, metric_of
from featherweight.schema import Choice

NEGLIGIBLE = 0.1  # of the distance from a score to the end of its interval: a smaller bias leaves the interval as it is


def score_of_part(
    metric: Choice, predicted: Answers, true: Answers, *, groups: Groups | None, labelled: int | None
) -> Score:
    """Return the score of a part of `labelled` images that was split off class by class; None if it was not.

    As `metrics.score_of`, but the interval reaches further by the estimated bias.
    """
    score = metrics.score_of(metric, predicted, true, groups=groups)
    return widened(score, bias(metric, predicted, true, groups=groups, labelled=labelled))


def widened(score: Score, bias: float) -> Score:
    """Return a score whose interval reaches further by a bias that is not negligible."""
    shift, low, high = -score.of.sign * bias, score.low, score.high
    if shift < -NEGLIGIBLE * (score.value - low):
        low = max(low + shift, score.of.span[0])
    if shift > NEGLIGIBLE * (high - score.value):
        high = high + shift if score.of.lower_is_better else min(high + shift, score.of.span[1])
    longer = (low, high) != (score.low, score.high)
    return replace(score, low=low, high=high, plain=(score.low, score.high)) if longer else score


def by_sampling(score: Score) -> Score:
    """Return a score with the interval of sampling alone, which `widened` has kept."""
    return score if score.plain is None else replace(score, low=score.plain[0], high=score.plain[1], plain=None)


def bias(metric: Choice, predicted: Answers, true: Answers, *, groups: Groups | None, labelled: int | None) -> float:
    """Return by how much better a part of `labelled` images scores because it has their class frequencies; 0 for sets
    of classes, and if the part was not split off class by class.
    """
    if true.ndim > 1 or labelled is None or not len(true):
        return 0.0
    images = bootstrap.independent(len(true), groups) * labelled / len(true)
    weights = np.stack([np.ones(len(true)), population_weights(true, images)])
    as_held, as_drawn = metric_of(metric).weighted(predicted, true, weights, **metric.arguments)
    return float(metric_of(metric).sign * (as_held - as_drawn))


def population_weights(labels: NDArray[np.int64], independent: float) -> NDArray[np.float64]:
    """Return weights of held-out images, float64 [N], that give their classes [N] the frequencies of the population.

    These are the observed ones, drawn towards equal ones as far as chance among as many `independent` labelled images
    explains their differences (James and Stein 1961, by the chi-squared statistic).
    """
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    share, even = counts / len(labels), 1 / len(classes)
    chi_squared = independent * float(((share - even) ** 2).sum()) / even
    chance = min((len(classes) - 1) / chi_squared, 1.0) if chi_squared > 0 else 1.0
    weights: NDArray[np.float64] = ((1 - chance) * share + chance * even)[index] / share[index]
    return weights
