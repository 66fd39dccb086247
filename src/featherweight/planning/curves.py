"""What a network reaches in some epochs on a task, from a table of learning curves that were measured.

`curves.csv` holds a row per training: the task in numbers, the network's parameters, the epochs, and the error on
images that were held out. `./run.sh bench curves` measures it. The model is a plain one: the logit of the error is
linear in logarithms of the row's numbers and in some of their products, with a level of its own for each data set, and
is fitted by Bayesian ridge regression, for networks that start from random weights and from published ones apart. Of a
new task the level is unknown, until a pilot has been trained on it; which network is better, and how much longer
training helps, are learned within the data sets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featherweight.planning.task import Task

if TYPE_CHECKING:
    from sklearn.linear_model import BayesianRidge

TABLE = Path(__file__).with_name("curves.csv")
PUBLISHED = ("lite0",)  # networks of the table that start from published weights
PILOT = "this task"  # the data set of pilots
NUMBERS = ("images", "classes", "size", "channels", "parameters", "epochs", "holdout")


@dataclass(frozen=True)
class Row:
    """A training that was measured; `error` is a fraction of `holdout` images. No epochs: a linear probe."""

    dataset: str
    images: int
    classes: int
    size: int
    channels: int
    parameters: int
    epochs: int
    holdout: int
    error: float
    published: bool = False


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
            Row(
                row["dataset"],
                **{key: int(row[key]) for key in NUMBERS},
                error=float(row["error"]),
                published=row["network"] in PUBLISHED,
            )
            for row in csv.DictReader(file)
        ]


def _features(row: Row) -> list[float]:
    """Logarithms, centred on a middling task, and the products in which networks and lengths of training differ."""
    n, k, s = np.log2(row.images / 4000), np.log2(row.classes / 10), np.log2(row.size / 32)
    if row.published:  # one network, whose epochs may be none
        s, e = s - 2, np.log2((1 + row.epochs) / 4)
        return [n, k, s, e, e * e, e * n, e * k, e * s]
    p, e = np.log2(row.parameters / 1e6), np.log2(row.epochs / 12)
    return [n, k, s, p, e, e * e, p * p, p * e, p * n, e * n, p * s, p * k]


class Curves:
    """The model over measured rows, of the table and of pilots."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self._models: dict[bool, tuple[BayesianRidge, list[str], float]] = {}

    def and_pilots(self, pilots: Sequence[Row]) -> Curves:
        """These and the rows of pilots on the task, whose data set is PILOT."""
        return Curves([*self.rows, *pilots])

    def _model(self, published: bool) -> tuple[BayesianRidge, list[str], float]:
        """The regression over rows of one kind, the data sets that have a level in it, and these levels' deviation."""
        if published not in self._models:
            from sklearn.linear_model import BayesianRidge

            rows = [row for row in self.rows if row.published == published]
            datasets = sorted({row.dataset for row in rows})
            errors = np.array([_logit(row.error, row.holdout) for row in rows])
            model = BayesianRidge().fit(np.array([_with_level(row, datasets) for row in rows]), errors)
            levels = model.coef_[-len(datasets) :]
            self._models[published] = model, datasets, float(np.std(levels)) if len(levels) > 1 else 1.0
        return self._models[published]

    def forecast(self, task: Task, parameters: int, epochs: int, size: int, published: bool = False) -> Forecast:
        """The score of a network of that many parameters after that many epochs at a size in pixels.

        What a pilot has found out of the task is heeded; without one the range is as wide as tasks differ.
        """
        model, datasets, spread = self._model(published)
        row = Row(PILOT, task.images, task.classes, size, task.channels, parameters, epochs, 1, 0.5, published)
        mean, deviation = model.predict([_with_level(row, datasets)], return_std=True)
        wide = float(deviation[0] if PILOT in datasets else np.hypot(deviation[0], spread))
        ends: NDArray[np.float64] = 1 / (1 + np.exp(-(mean[0] + np.array([0.0, 1.96, -1.96]) * wide)))
        return Forecast(*(float(1 - end) for end in ends))


def _with_level(row: Row, datasets: list[str]) -> list[float]:
    return [*_features(row), *(float(row.dataset == name) for name in datasets)]


def _logit(error: float, count: int) -> float:
    """The logit of an error of `count` images; one of none is taken for half an image."""
    kept = min(max(error, 0.5 / count), 1 - 0.5 / count)
    return float(np.log(kept / (1 - kept)))
