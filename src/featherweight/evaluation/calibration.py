"""Probabilities that are as right as they say: one temperature for all classes, fitted on the holdout."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def fit_temperature(probs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature by which probabilities [N, K] of classes [N] have the least log loss (arXiv:1706.04599)."""
    from scipy.optimize import minimize_scalar  # half a second to import

    def loss(logarithm: float) -> float:
        given = temper(probs, math.exp(logarithm))[np.arange(len(labels)), labels]
        return float(-np.log(given.clip(1e-12)).mean())

    return math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-4}).x)


def temper(probs: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Probabilities [N, K] to the power of 1 / temperature, rescaled to one: over 1 less certain, under 1 more."""
    logs = np.log(probs.astype(np.float64).clip(1e-12)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    tempered: NDArray[np.float32] = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return tempered
