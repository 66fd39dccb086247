"""Probabilities that are as right as they say: one temperature for all classes, fitted on the holdout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.bootstrap import fifths


def fit_temperature(probs: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """The temperature by which probabilities [N, K] of classes [N], or of sets [N, K], have the least log loss
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
    """Probabilities [N, K] to the power of 1 / temperature, rescaled to one: over 1 less certain, under 1 more.

    With `several` classes per image each class is rescaled against its own absence.
    """
    logs = np.log(probs.astype(np.float64).clip(1e-12)) / temperature
    if several:
        against = np.log((1 - probs.astype(np.float64)).clip(1e-12)) / temperature
        tempered: NDArray[np.float32] = (1 / (1 + np.exp(against - logs))).astype(np.float32)
        return tempered
    powers = np.exp(logs - logs.max(1, keepdims=True))
    shares: NDArray[np.float32] = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return shares


def tempered_crossed(probs: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities [N, K] at temperatures that have not seen their labels: each fifth at that fitted to the others."""
    part, tempered = fifths(len(probs)), probs.copy()
    for number in range(part.max() + 1 if len(probs) > 1 else 0):
        here = part == number
        temperature = fit_temperature(probs[~here], labels[~here])
        tempered[here] = temper(probs[here], temperature, several=labels.ndim == 2)
    return tempered
