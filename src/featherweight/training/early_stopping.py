"""Metrics of the holdout that a schedule or early stopping may watch, and the rule when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.metrics import METRICS, plain

Watched = Literal["loss", "accuracy", "f1", "score"]  # f1: macro; score: by the competition's own metric
History = Sequence[Mapping[str, Any]]


def evaluate(probs: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
    """Return the holdout's loss (nats), accuracy and macro F1 from probabilities [N, K] and classes [N] or sets [N, K].

    All three are stored because they may disagree: the loss may rise while F1 rises too (LOGBOOK C).
    """
    several = labels.ndim == 2
    of_true = (np.where(labels, probs, 1 - probs) if several else probs[np.arange(len(probs)), labels]).astype(
        np.float64
    )
    return {
        "holdout_loss": float(-np.log(of_true.clip(1e-12)).mean()),
        **classified("holdout", plain(probs, several), labels),
    }


def classified(part: str, predicted: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return the accuracy and macro F1, named after `part`, of predicted and true classes [N] or sets [N, K]."""
    return {
        f"{part}_accuracy": METRICS["accuracy"].value(predicted, labels),
        f"{part}_f1": METRICS["macro_f1"].value(predicted, labels),
    }


def values(history: History, metric: Watched, score_falls: bool = False) -> Iterator[float]:
    """Return the metric at each evaluation of the holdout, signed so that lower is better; other epochs are skipped.

    `score_falls`: True if a lower score is better, as with log loss.
    """
    falls = metric == "loss" or (metric == "score" and score_falls)
    for row in history:
        value = row[f"holdout_{metric}"]
        if not math.isnan(value):
            yield value if falls else -value


def best_of(values: Sequence[float], margin: float = 0.0) -> int:
    """Return the place of the evaluation whose weights are kept: the last that is lower than the one kept before by
    more than `margin`; 0 without any.
    """
    best, kept = math.inf, 0
    for place, value in enumerate(values):
        if value < best - margin:
            best, kept = value, place
    return kept


def since_best(history: History, metric: Watched, margin: float = 0.0, score_falls: bool = False) -> int:
    """Return the number of evaluations since the best one; 0 if the last is the best by more than `margin`."""
    seen = list(values(history, metric, score_falls))
    return max(len(seen) - 1 - best_of(seen, margin), 0)
