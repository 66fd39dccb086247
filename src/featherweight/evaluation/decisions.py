"""From probabilities to answers: the one place that decides, for the holdout as for the submission.

One class per image is the most probable one. Sets of classes take thresholds, one for all classes or one for each;
ordered classes take cut points on the expected class index (for quadratic kappa). Both are fitted to the competition's
metric on images that the model was not trained on, where they do better than the plain answer on images they were not
fitted to. The images they are fitted to are answered by fifths: each by what is fitted to the other four, so that their
score is not of a decision that has seen them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.evaluation.bootstrap import fifths
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import metric_of, plain, value
from featherweight.schema import Choice

Target = Literal["one", "several", "ordered"]

CANDIDATES = 64  # thresholds tried for all classes, and places of each cut point
FEWEST = 10  # images that a decision is fitted to
ROUNDS = 10  # of moving the cut points one after another


@dataclass(frozen=True)
class Decision:
    """How probabilities [N, K] become answers: `most_probable` classes int64 [N], sets [N, K] of the classes over
    `thresholds` (K of them), or classes [N] by how many of K - 1 `cuts` the expected index has passed.
    """

    kind: Literal["most_probable", "thresholds", "cuts"] = "most_probable"
    values: tuple[float, ...] = ()

    def __call__(self, probs: NDArray[np.floating]) -> Answers:
        """The answers."""
        if self.kind == "thresholds":
            return probs > np.asarray(self.values, dtype=probs.dtype)
        if self.kind == "cuts":
            return np.searchsorted(np.asarray(self.values), expected_index(probs), side="right")
        return plain(probs, several=False)

    def store(self, path: Path) -> None:
        """Keep it in a file."""
        atomic.write_text(path, json.dumps({"kind": self.kind, "values": self.values}) + "\n")


def expected_index(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean of the class indices by their probabilities, float64 [N]."""
    index: NDArray[np.float64] = probs.astype(np.float64) @ np.arange(probs.shape[1])
    return index


def unfitted(target: Target, classes: int) -> Decision:
    """The plain answer: the most probable class, or every class over a half."""
    return Decision("thresholds", (0.5,) * classes) if target == "several" else Decision()


def is_fitted(target: Target, metric: Choice) -> bool:
    """Is there anything to fit for a target and a metric?"""
    if target == "ordered":
        return metric.name == "quadratic_kappa"
    return target == "several" and metric_of(metric).judges == "answers"


def fit(target: Target, metric: Choice, probs: NDArray[np.floating], true: Answers) -> Decision:
    """The decision that serves the metric best on probabilities [N, K] of true classes [N] or sets [N, K].

    Of the ways to decide, the one that does best when fitted to four fifths and scored on the other, all five ways.
    """
    classes = probs.shape[1]
    if not is_fitted(target, metric) or len(probs) < FEWEST:
        return unfitted(target, classes)
    ways = _ways(target, metric, classes)

    def worth(way: _Way) -> float:
        answers = _crossed(way, probs, true)
        return metric_of(metric).sign * value(metric, answers, true)

    best = max(ways, key=worth)  # of equal ones the first, which fits least
    return best(probs, true)


def crossed(target: Target, metric: Choice, probs: NDArray[np.floating], true: Answers) -> Answers:
    """The answers to images that decisions are fitted to: each fifth is answered by what is fitted to the others.

    Where nothing is fitted, or there are too few images, the plain answers.
    """
    if not is_fitted(target, metric) or len(probs) < FEWEST:
        return unfitted(target, probs.shape[1])(probs)
    return _crossed(lambda some, theirs: fit(target, metric, some, theirs), probs, true)


_Way = Callable[[NDArray[np.floating], Answers], Decision]


def judged(target: Target, metric: Choice, probs: NDArray[np.floating], true: Answers) -> Answers:
    """What a metric is given to score probabilities [N, K] as a run's holdout is scored: the answers by fifths where
    decisions are fitted, else the probabilities float64.
    """
    return crossed(target, metric, probs, true) if is_fitted(target, metric) else probs.astype(np.float64)


def _crossed(way: _Way, probs: NDArray[np.floating], true: Answers) -> Answers:
    part = fifths(len(probs))
    answers: Answers | None = None
    for number in range(part.max() + 1):
        here = part == number
        some = way(probs[~here], true[~here])(probs[here])
        if answers is None:
            answers = np.empty((len(probs), *some.shape[1:]), dtype=some.dtype)
        answers[here] = some
    assert answers is not None
    return answers


def _ways(target: Target, metric: Choice, classes: int) -> Sequence[_Way]:
    def nothing(probs: NDArray[np.floating], true: Answers) -> Decision:
        return unfitted(target, classes)

    def one_threshold(probs: NDArray[np.floating], true: Answers) -> Decision:
        tried = np.unique(np.quantile(probs, np.linspace(0, 1, CANDIDATES + 1)[:-1]).clip(1e-6, 1 - 1e-6))
        scores = [metric_of(metric).sign * value(metric, probs > threshold, true) for threshold in tried]
        return Decision("thresholds", (float(tried[int(np.argmax(scores))]),) * classes)

    def thresholds(probs: NDArray[np.floating], true: Answers) -> Decision:
        return Decision("thresholds", _of_each(probs, true, float(metric.arguments.get("beta", 1.0))))

    def cuts(probs: NDArray[np.floating], true: Answers) -> Decision:
        return Decision("cuts", _cuts(expected_index(probs), true, metric, classes))

    return (nothing, cuts) if target == "ordered" else (nothing, one_threshold, thresholds)


def _of_each(probs: NDArray[np.floating], true: Answers, beta: float) -> tuple[float, ...]:
    """For each class the threshold of the best F-beta, between two probabilities; a half for a class without images."""
    order = np.argsort(-probs, axis=0, kind="stable")
    ranked = np.take_along_axis(probs.astype(np.float64), order, 0)
    right = np.take_along_axis(true.astype(np.float64), order, 0).cumsum(0)
    claimed = np.arange(1, len(probs) + 1)[:, None]
    scores = (1 + beta**2) * right / (claimed + beta**2 * true.sum(0).clip(1))
    below = np.vstack([ranked[1:], np.zeros(probs.shape[1])])
    scores[ranked == below] = -1  # those that are given the same are answered the same
    best = scores.argmax(0)
    columns = np.arange(probs.shape[1])
    middle = (ranked[best, columns] + below[best, columns]) / 2
    return tuple(np.where(true.any(0), middle, 0.5).tolist())


def _cuts(index: NDArray[np.float64], true: Answers, metric: Choice, classes: int) -> tuple[float, ...]:
    """Cut points on the expected index, moved one after another to where the metric is best, until none moves."""
    cuts = np.arange(classes - 1) + 0.5

    def worth(tried: NDArray[Any]) -> float:
        return value(metric, np.searchsorted(tried, index, side="right"), true)

    best = worth(cuts)
    places = np.unique(np.quantile(index, np.linspace(0, 1, CANDIDATES + 1)))
    places = (places[1:] + places[:-1]) / 2
    for _ in range(ROUNDS):
        before = best
        for number in range(classes - 1):
            low = cuts[number - 1] if number else -np.inf
            high = cuts[number + 1] if number < classes - 2 else np.inf
            for place in places[(places > low) & (places < high)]:
                tried = cuts.copy()
                tried[number] = place
                if (score := worth(tried)) > best:
                    best, cuts = score, tried
        if best == before:
            break
    return tuple(cuts.tolist())
