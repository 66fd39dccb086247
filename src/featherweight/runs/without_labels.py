"""What a run's images to predict show without labels: a shift, the score under it, the gain of a mean of folds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation import unlabelled
from featherweight.evaluation.calibration import fit_temperature, temper
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score, metric_of, value
from featherweight.evaluation.unlabelled import DomainFeatures
from featherweight.runs import fitted, selection, stored_probs
from featherweight.runs.run import Run

# Root mean square error of the label-free estimates over 2 AUC - 1, where a shift was seen: 0.29 in 30 runs, 0.31 in
# those whose images to predict were corrupted (`./run.sh bench coverage --cells 2 6`).
ERROR = 0.3


@dataclass(frozen=True)
class Shift:
    """Whether the images to predict are `shifted`: the AUC of a classifier that tells them from those held out, with
    its interval; and estimates of the score on them, by name, with their root mean square `error` under the shift.
    """

    auc: tuple[float, float, float]
    shifted: bool
    estimates: dict[str, float] = field(default_factory=dict)
    error: float = 0.0


def shift_of(
    run: Run,
    holdout: Score,
    labels: NDArray[Any],
    features: DomainFeatures | None = None,
    usable: NDArray[np.bool_] | None = None,
) -> Shift:
    """Return the shift of a run's images to predict, by the network's `features` or else by its probabilities.

    `labels` are the held-out classes [N], or sets [N, K]; `usable` [N] the images that `holdout` is the score of, if
    not all.
    """
    some = np.ones(len(labels), dtype=bool) if usable is None else usable
    probs, answers = (part[some] for part in fitted.cross_fitted(run, labels))
    test, labels, held = run.probs("predict"), labels[some], run.groups(run.split.holdout)
    if features is None:
        features = DomainFeatures(np.log(probs.clip(1e-6)), np.log(test.clip(1e-6)))
    else:
        features = DomainFeatures(features.holdout[some], features.predict, features.groups)
    domain = unlabelled.domain(
        features.holdout, features.predict, (None if held is None else held[some], features.groups)
    )
    metric, keys = holdout.of, run.competition.metric.arguments
    if metric.counts and metric.input_kind == "answers" and labels.ndim == 1:
        estimates = unlabelled.estimates(probs, probs.argmax(1) == labels, test, domain.weights)
        estimates |= {} if usable is not None else _by_agreement(run, holdout.value, test)
        size = 1.0
    else:
        judged = answers if metric.input_kind == "answers" else probs.astype(np.float64)
        weighted = metric.weighted(judged, labels, domain.weights[None], **keys)[0]
        estimates = {"importance weights": float(weighted)} if np.isfinite(weighted) else {}
        size = abs(holdout.value - metric.by_chance(judged, labels, keys))
    auc = domain.auc.value, domain.auc.low, domain.auc.high
    return Shift(auc, domain.shifted, estimates, size * error_under(auc[0]))


def error_under(auc: float) -> float:
    """Return the root mean square error of the label-free estimates of the accuracy under a shift with this AUC; of
    other scores, as a part of their distance from answers by chance.
    """
    return ERROR * max(2 * auc - 1, 0.0)


def _by_agreement(run: Run, accuracy: float, test: NDArray[Any]) -> dict[str, float]:
    """Return the accuracy that agreement with another seed of the recipe predicts: it falls as agreement does."""
    for other in selection.on_the_same_images(run):
        theirs = stored_probs.read(other, "predict")
        seed_alone = other.recipe.model_copy(update={"seed": run.recipe.seed}) == run.recipe
        if other.name == run.name or not seed_alone or theirs is None:
            continue
        if stored_probs.of_same_images(other, run, "predict"):
            held = unlabelled.agreement(run.probs("holdout"), other.probs("holdout"))
            gain = unlabelled.agreement(test, theirs) - held
            return {f"agreement with {other.name}": float(np.clip(accuracy + gain, 0, 1))}
    return {}


def fold_gain(run: Run, labels: Answers) -> float:
    """Return by how much better the mean of folds is expected to score on the images to predict than each fold.

    `labels` are the classes [N], or sets [N, K], of the ensemble's holdout, to which the probabilities are calibrated.
    """
    competition = run.competition
    metric = metric_of(competition.metric)

    def score(probs: NDArray[Any], true: Answers) -> float:
        judged = fitted.decision(run)(probs) if metric.input_kind == "answers" else probs.astype(np.float64)
        return metric.sign * value(competition.metric, judged, true)

    members, mean = [member.probs("predict") for member, _ in run.weighted_models], run.probs("predict")
    several = labels.ndim == 2
    calibrated = temper(mean, fit_temperature(run.probs("holdout"), labels), several=several)
    return unlabelled.gain_of_mean(members, mean, calibrated, score, several=several)
