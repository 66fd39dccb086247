"""Calibration: one temperature for all classes, fitted on the holdout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.bootstrap import Groups, fold_of

SMALLEST = 1e-12  # probability, so that its logarithm is finite


def fit_temperature(probs: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """Return the temperature at which probabilities [N, K] of classes [N], or of sets [N, K], have the lowest log loss
    (arXiv:1706.04599).

    Labels are smoothed by 1 / (N + 2), as if one image more were wrong (Platt 1999): N images that are all right do not
    show that no other will be wrong.
    """
    from scipy.optimize import minimize_scalar  # half a second to import

    smoothing = 1 / (len(labels) + 2)

    def loss(logarithm: float) -> float:
        temperature = math.exp(logarithm)
        if labels.ndim == 2:
            present, absent = _logs_of_sets(probs, temperature)
            true, others = np.where(labels, present, absent), np.where(labels, absent, present)
        else:
            logs = _logs(probs, temperature)
            true, others = logs[np.arange(len(labels)), labels], logs.mean(1)
        return float(-((1 - smoothing) * true + smoothing * others).mean())

    return math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-4}).x)


def temper(probs: NDArray[np.float32], temperature: float, several: bool = False) -> NDArray[np.float32]:
    """Return probabilities [N, K] to the power of 1 / temperature, normalised: less certain over 1, more certain under
    1.

    With `several` classes per image each class is normalised against its own absence.
    """
    logs = _logs_of_sets(probs, temperature)[0] if several else _logs(probs, temperature)
    tempered: NDArray[np.float32] = np.exp(logs).astype(np.float32)
    return tempered


def _logs(probs: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return the logarithms of tempered probabilities [N, K]."""
    powers = np.log(probs.astype(np.float64).clip(SMALLEST)) / temperature
    logs: NDArray[np.float64] = powers - np.logaddexp.reduce(powers, axis=1, keepdims=True)
    return logs


def _logs_of_sets(probs: NDArray[np.float32], temperature: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the logarithms of tempered probabilities [N, K] of classes in sets, and of those that they are absent."""
    present, absent = (
        np.log(each.clip(SMALLEST)) / temperature for each in (probs.astype(np.float64), 1 - probs.astype(np.float64))
    )
    whole = np.logaddexp(present, absent)
    return present - whole, absent - whole


def temper_cross_fitted(
    probs: NDArray[np.float32], labels: NDArray[Any], *, groups: Groups | None
) -> NDArray[np.float32]:
    """Return probabilities [N, K] calibrated by 5-fold cross-fitting: each fold at the temperature of the others.

    With `groups` int64 [N], related images share a fold, so that no temperature is fitted to copies of its images.
    """
    fold, tempered = fold_of(len(probs), groups), probs.copy()
    for number in range(fold.max() + 1 if len(probs) and fold.any() else 0):
        here = fold == number
        temperature = fit_temperature(probs[~here], labels[~here])
        tempered[here] = temper(probs[here], temperature, several=labels.ndim == 2)
    return tempered
