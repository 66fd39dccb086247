"""Measure how well the gain of a mean of folds is estimated without labels: see `coverage.py --folds`.

Each fold trains the last layer of a network with random hidden units, other ones in each fold, on images of digits
(scikit-learn's) or of shapes (drawn). The gain is that of the mean of the folds' probabilities over each fold, on
images to predict whose classes are known here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _cells import SETS, pictures
from featherweight.data.split import folds as folds_of
from featherweight.evaluation import unlabelled
from featherweight.evaluation.calibration import fit_temperature, temper
from featherweight.evaluation.metrics import METRICS

METRICS_ASKED = ("accuracy", "macro_f1", "log_loss")
UNITS = {"small": 60, "large": 400}  # hidden units
SHARPNESS = 4.0  # of the softmax on the outputs, which are fitted to 0 and 1
RIDGE = 3.0
Floats = NDArray[np.floating]


def cells() -> list[dict[str, Any]]:
    """Return the arguments of `cell` but for the draws."""
    named = ("set", "network", "images", "folds")
    return [dict(zip(named, one, strict=True)) for one in itertools.product(SETS, UNITS, (200, 700), (3, 5, 10))]


def cell(*, set: str, network: str, images: int, folds: int, draws: int) -> list[dict[str, Any]]:
    """Return, per metric, the mean `estimated` and `measured` gain, and the root mean squares of the estimates (`size`)
    and of their errors (`error`).
    """
    gains: dict[str, list[tuple[float, float]]] = {metric: [] for metric in METRICS_ASKED}
    for draw in range(draws):
        random = np.random.default_rng([images, folds, UNITS[network], draw])
        (drawn, labels), (others, answers) = pictures(set, random)
        seen, labels = drawn[:images].reshape(images, -1) / 255, labels[:images]
        test = others.reshape(len(others), -1) / 255
        fold = folds_of([str(n) for n in range(images)], [str(label) for label in labels], folds, seed=draw)
        held, members = np.empty((images, labels.max() + 1)), []
        for number in range(folds):
            probs = _trained(seen[fold != number], labels[fold != number], UNITS[network], random)
            held[fold == number] = probs(seen[fold == number])
            members.append(probs(test))
        mean = np.mean(members, axis=0)
        calibrated = temper(mean, fit_temperature(held, labels))
        for metric in METRICS_ASKED:
            gains[metric].append(_gains(metric, members, mean, calibrated, answers))
    rows = []
    for metric, pairs in gains.items():
        estimated, measured = np.array(pairs).T
        row = {"estimated": estimated.mean(), "measured": measured.mean()}
        row |= {"size": _root_mean_square(estimated), "error": _root_mean_square(measured - estimated)}
        rows.append({"metric": metric, "draws": draws} | {name: float(of) for name, of in row.items()})
    return rows


def relative_error(rows: Sequence[dict[str, Any]]) -> float:
    """Return the root mean square error of the estimates over the root mean square estimate."""
    error, size = (_root_mean_square(np.array([row[name] for row in rows])) for name in ("error", "size"))
    return error / size


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a Markdown table, in points or in nats, and each metric's relative error: see `GAIN_ERROR` of
    `featherweight.runs.expected_score`.
    """
    lines = ["| metric | folds | estimated | measured | error over estimate |", "|---" * 5 + "|"]
    for metric, folds in itertools.product(METRICS_ASKED, sorted({row["folds"] for row in rows})):
        some = [row for row in rows if (row["metric"], row["folds"]) == (metric, folds)]
        gains = (METRICS[metric].number(float(np.mean([row[of] for row in some]))) for of in ("estimated", "measured"))
        lines.append(f"| {metric} | {folds} | {' | '.join(gains)} | {relative_error(some):.2f} |")
    of_each = [(metric, [row for row in rows if row["metric"] == metric]) for metric in METRICS_ASKED]
    errors = ", ".join(f"{metric} {relative_error(some):.2f}" for metric, some in of_each)
    return [*lines, f"error over estimate: {errors}"]


def _gains(
    name: str, members: Sequence[Floats], mean: Floats, calibrated: Floats, answers: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the estimated and the measured gain."""
    metric = METRICS[name]

    def score(probs: Floats, true: NDArray[Any]) -> float:
        return metric.sign * metric.value(probs.argmax(1) if metric.input_kind == "answers" else probs, true)

    estimated = unlabelled.gain_of_mean(members, mean, calibrated, score, several=False)
    return estimated, score(mean, answers) - float(np.mean([score(one, answers) for one in members]))


def _trained(
    images: Floats, labels: NDArray[np.int64], units: int, random: np.random.Generator
) -> Callable[[Floats], NDArray[np.float64]]:
    """Return a function from images [N, P] to probabilities float64 [N, K], fitted by ridge regression."""
    into = random.normal(size=(images.shape[1], units)) / np.sqrt(images.shape[1])
    centre, bias = images.mean(0), random.normal(size=units) / 4

    def hidden(pixels: Floats) -> NDArray[np.float64]:
        return np.hstack([np.maximum((pixels - centre) @ into * 4 + bias, 0), np.ones((len(pixels), 1))])

    inside, wanted = hidden(images), np.eye(labels.max() + 1)[labels]
    out = np.linalg.solve(inside.T @ inside + RIDGE * np.eye(units + 1), inside.T @ wanted)

    def probabilities(pixels: Floats) -> NDArray[np.float64]:
        logits = SHARPNESS * (hidden(pixels) @ out)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probs: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return probs

    return probabilities


def _root_mean_square(of: Floats) -> float:
    return float(np.sqrt((of**2).mean()))
