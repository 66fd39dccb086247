"""What a network reaches in some epochs on a task, from a table of learning curves that were measured.

`curves.csv` holds a row per training: the task in numbers, the network's parameters, the epochs, and the error on
images that were held out. `./run.sh bench curves` measures it. The model is a plain one: the logit of the error is
linear in logarithms of the row's numbers and in some of their products, with a level of its own for each data set, and
is fitted by Bayesian ridge regression. The level of a new task is unknown, which is most of what its forecast is unsure
of; which network is better, and how much longer training helps, are learned within the data sets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.planning.task import Task

TABLE = Path(__file__).with_name("curves.csv")
NUMBERS = ("images", "classes", "size", "channels", "parameters", "epochs", "holdout")


@dataclass(frozen=True)
class Row:
    """A training that was measured; `error` is a fraction of `holdout` images."""

    dataset: str
    images: int
    classes: int
    size: int
    channels: int
    parameters: int
    epochs: int
    holdout: int
    error: float


@dataclass(frozen=True)
class Forecast:
    """A score to be expected (a fraction) and the ends of its 95 % range."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.0%} to {self.high:.0%})"


def table(path: Path = TABLE) -> list[Row]:
    """The measured rows."""
    with path.open(newline="") as file:
        return [
            Row(row["dataset"], **{key: int(row[key]) for key in NUMBERS}, error=float(row["error"]))
            for row in csv.DictReader(file)
        ]


def _features(images: float, classes: float, size: float, parameters: float, epochs: float) -> list[float]:
    """Logarithms, centred on a middling task, and the products in which networks and lengths of training differ."""
    n, k, s = np.log2(images / 4000), np.log2(classes / 10), np.log2(size / 32)
    p, e = np.log2(parameters / 1e6), np.log2(epochs / 12)
    return [n, k, s, p, e, e * e, p * p, p * e, p * n, e * n, p * s, p * k]


class Curves:
    """The model over measured rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.datasets = sorted({row.dataset for row in rows})

    @cached_property
    def _fitted(self) -> tuple[object, float]:
        """The regression, and the deviation of a data set's level."""
        from sklearn.linear_model import BayesianRidge

        features = np.array([self._row(row) for row in self.rows])
        errors = np.array([_logit(row.error, row.holdout) for row in self.rows])
        model = BayesianRidge().fit(features, errors)
        levels = model.coef_[-len(self.datasets) :]
        return model, float(np.std(levels)) if len(levels) > 1 else 1.0

    def _row(self, row: Row) -> list[float]:
        own = [float(row.dataset == name) for name in self.datasets]
        return [*_features(row.images, row.classes, row.size, row.parameters, row.epochs), *own]

    def forecast(self, task: Task, parameters: int, epochs: float, size: int | None = None) -> Forecast:
        """The score of a network of that many parameters after that many epochs at a size (default: the task's)."""
        model, spread = self._fitted
        features = _features(task.images, task.classes, size or task.size, parameters, epochs)
        mean, deviation = model.predict([[*features, *[0.0] * len(self.datasets)]], return_std=True)  # type: ignore[attr-defined]
        wide = float(np.hypot(deviation[0], spread))
        ends: NDArray[np.float64] = 1 / (1 + np.exp(-(mean[0] + np.array([0.0, 1.96, -1.96]) * wide)))
        return Forecast(*(float(1 - end) for end in ends))


def _logit(error: float, count: int) -> float:
    """The logit of an error of `count` images; one of none is taken for half an image."""
    kept = min(max(error, 0.5 / count), 1 - 0.5 / count)
    return float(np.log(kept / (1 - kept)))
