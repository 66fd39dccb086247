"""Calibration: one temperature for all classes, fitted on the holdout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.bootstrap import Groups, fold_of


def fit_temperature(probs: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """Return the temperature at which probabilities [N, K] of classes [N], or of sets [N, K], have the lowest log loss
    (arXiv:1706.04599).
    """
    from scipy.optimize import minimize_scalar  # half a second to import

    def loss(logarithm: float) -> float:
        tempered = temper(probs, math.exp(logarithm), several=labels.ndim == 2)
        if labels.ndim == 2:
            certain = np.where(labels, tempered, 1 - tempered)
        else:
            certain = tempered[np.arange(len(labels)), labels]
        return float(-np.log(certain.clip(1e-12)).mean())

    return math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-4}).x)


def temper(probs: NDArray[np.float32], temperature: float, several: bool = False) -> NDArray[np.float32]:
    """Return probabilities [N, K] to the power of 1 / temperature, normalised: less certain over 1, more certain under
    1.

    With `several` classes per image each class is normalised against its own absence.
    """
    logs = np.log(probs.astype(np.float64).clip(1e-12)) / temperature
    if several:
        against = np.log((1 - probs.astype(np.float64)).clip(1e-12)) / temperature
        tempered: NDArray[np.float32] = (1 / (1 + np.exp(against - logs))).astype(np.float32)
        return tempered
    powers = np.exp(logs - logs.max(1, keepdims=True))
    shares: NDArray[np.float32] = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return shares


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
