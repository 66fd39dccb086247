"""From probabilities to answers: the one place that decides, for the holdout as for the submission.

One class per image is the most probable one. Sets of classes take thresholds, one for all classes or one for each;
ordered classes take cut points on the expected class index (for quadratic kappa). Both are fitted to the competition's
metric on images that the model was not trained on, if they do better there than the unfitted rule in cross-validation.
The images they are fitted to are answered by 5-fold cross-fitting, so that their score is not optimistic.
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
from featherweight.evaluation.bootstrap import Groups, fold_of, independent
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import metric_of, plain, value
from featherweight.schema import Choice

Target = Literal["one", "several", "ordered"]

CANDIDATES = 64  # thresholds tried for all classes, and positions tried for each cut point
FEWEST_IMAGES = 10  # independent images that a rule is fitted to
ROUNDS = 10  # of coordinate ascent over the cut points


@dataclass(frozen=True)
class DecisionRule:
    """How probabilities [N, K] become answers.

    `kind` "most_probable" gives classes int64 [N]; "thresholds" sets [N, K] of the classes over `values` (K of them);
    "cuts" classes [N], the number of the K - 1 `values` that the expected class index has passed.
    """

    kind: Literal["most_probable", "thresholds", "cuts"] = "most_probable"
    values: tuple[float, ...] = ()

    def __call__(self, probs: NDArray[np.floating]) -> Answers:
        """Return the answers."""
        if self.kind == "thresholds":
            return probs > np.asarray(self.values, dtype=probs.dtype)
        if self.kind == "cuts":
            return np.searchsorted(np.asarray(self.values), expected_index(probs), side="right")
        return plain(probs, several=False)

    def store(self, path: Path) -> None:
        """Write the rule as a JSON file."""
        atomic.write_text(path, json.dumps({"kind": self.kind, "values": self.values}) + "\n")


def expected_index(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the expected class index of each image, float64 [N]."""
    index: NDArray[np.float64] = probs.astype(np.float64) @ np.arange(probs.shape[1])
    return index


def unfitted(target: Target, classes: int) -> DecisionRule:
    """Return the unfitted rule: the most probable class, or every class over 0.5."""
    return DecisionRule("thresholds", (0.5,) * classes) if target == "several" else DecisionRule()


def is_fitted(target: Target, metric: Choice) -> bool:
    """True if there is a rule to fit for this target and metric."""
    if target == "ordered":
        return metric.name == "quadratic_kappa"
    return target == "several" and metric_of(metric).input_kind == "answers"


def fit(
    target: Target, metric: Choice, probs: NDArray[np.floating], true: Answers, *, groups: Groups | None
) -> DecisionRule:
    """Return the decision with the best metric on probabilities [N, K] of true classes [N] or sets [N, K].

    The kind of decision is chosen by 5-fold cross-validation, in which images of one of the `groups` share a fold.
    """
    classes = probs.shape[1]
    if not is_fitted(target, metric) or independent(len(probs), groups) < FEWEST_IMAGES:
        return unfitted(target, classes)
    candidates = _candidates(target, metric, classes)

    def worth(candidate: _Fit) -> float:
        answers = _cross_fitted(lambda some: candidate(probs[some], true[some]), probs, groups)
        return metric_of(metric).sign * value(metric, answers, true)

    best = max(candidates, key=worth)  # of equal ones the first, which fits the least
    return best(probs, true)


def cross_fitted(
    target: Target, metric: Choice, probs: NDArray[np.floating], true: Answers, *, groups: Groups | None
) -> Answers:
    """Return the answers by 5-fold cross-fitting: each fold is answered by a decision that is fitted to the others.

    Images of one of the `groups` int64 [N] share a fold. Where nothing is fitted, or fewer than FEWEST_IMAGES images or
    are there, these are the plain answers.
    """
    if not is_fitted(target, metric) or independent(len(probs), groups) < FEWEST_IMAGES:
        return unfitted(target, probs.shape[1])(probs)

    def fitted(some: NDArray[np.bool_]) -> DecisionRule:
        return fit(target, metric, probs[some], true[some], groups=None if groups is None else groups[some])

    return _cross_fitted(fitted, probs, groups)


_Fit = Callable[[NDArray[np.floating], Answers], DecisionRule]


def metric_input(
    target: Target, metric: Choice, probs: NDArray[np.floating], true: Answers, *, groups: Groups | None
) -> Answers:
    """Return what a run's holdout is scored by: the answers of `cross_fitted` where decisions are fitted, else the
    probabilities [N, K] as float64.
    """
    if is_fitted(target, metric):
        return cross_fitted(target, metric, probs, true, groups=groups)
    return probs.astype(np.float64)


def _cross_fitted(
    fitted: Callable[[NDArray[np.bool_]], DecisionRule], probs: NDArray[np.floating], groups: Groups | None
) -> Answers:
    fold = fold_of(len(probs), groups)
    answers: Answers | None = None
    for number in range(fold.max() + 1):
        here = fold == number
        some = fitted(~here)(probs[here])
        if answers is None:
            answers = np.empty((len(probs), *some.shape[1:]), dtype=some.dtype)
        answers[here] = some
    assert answers is not None
    return answers


def _candidates(target: Target, metric: Choice, classes: int) -> Sequence[_Fit]:
    def nothing(probs: NDArray[np.floating], true: Answers) -> DecisionRule:
        return unfitted(target, classes)

    def one_threshold(probs: NDArray[np.floating], true: Answers) -> DecisionRule:
        tried = np.unique(np.quantile(probs, np.linspace(0, 1, CANDIDATES + 1)[:-1]).clip(1e-6, 1 - 1e-6))
        scores = [metric_of(metric).sign * value(metric, probs > threshold, true) for threshold in tried]
        return DecisionRule("thresholds", (float(tried[int(np.argmax(scores))]),) * classes)

    def thresholds(probs: NDArray[np.floating], true: Answers) -> DecisionRule:
        return DecisionRule("thresholds", _of_each(probs, true, float(metric.arguments.get("beta", 1.0))))

    def cuts(probs: NDArray[np.floating], true: Answers) -> DecisionRule:
        return DecisionRule("cuts", _cuts(expected_index(probs), true, metric, classes))

    return (nothing, cuts) if target == "ordered" else (nothing, one_threshold, thresholds)


def _of_each(probs: NDArray[np.floating], true: Answers, beta: float) -> tuple[float, ...]:
    """Return each class's threshold of the best F-beta, halfway between two probabilities; 0.5 for a class without
    images.
    """
    order = np.argsort(-probs, axis=0, kind="stable")
    ranked = np.take_along_axis(probs.astype(np.float64), order, 0)
    right = np.take_along_axis(true.astype(np.float64), order, 0).cumsum(0)
    claimed = np.arange(1, len(probs) + 1)[:, None]
    scores = (1 + beta**2) * right / (claimed + beta**2 * true.sum(0).clip(1))
    below = np.vstack([ranked[1:], np.zeros(probs.shape[1])])
    scores[ranked == below] = -1  # ties are answered alike
    best = scores.argmax(0)
    columns = np.arange(probs.shape[1])
    middle = (ranked[best, columns] + below[best, columns]) / 2
    return tuple(np.where(true.any(0), middle, 0.5).tolist())


def _cuts(index: NDArray[np.float64], true: Answers, metric: Choice, classes: int) -> tuple[float, ...]:
    """Return cut points on the expected index by coordinate ascent: each is moved to where the metric is best, until
    none moves.
    """
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
