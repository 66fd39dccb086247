"""What a network reaches in some epochs on a task, from a table of learning curves that were measured.

`curves.csv` holds a row per training: the task in numbers, the network's parameters, the epochs, and the error on
images that were held out. `./run.sh bench curves` measures it. The model is a plain one: the logit of the error is
linear in logarithms of the row's numbers and in some of their products, with a level of its own for each data set, and
is fitted by Bayesian ridge regression, for networks that start from random weights and from published ones apart. For a
new task the level is unknown, until a pilot has been trained on it; which network is better, and how much more epochs
and images help, are learned within the data sets. The last two differ from set to set, which a forecast far from its
pilot says by a wider range.
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
PUBLISHED = ("lite0", "lite0_bold")  # networks of the table that start from published weights
LEAST_SPREAD = 0.7  # of data sets' levels, in logits: few data sets look more alike than they are
SLOPE_SPREAD = (
    0.3  # of data sets' slopes, in logits for each doubling: `bench leave_one_out` then finds 24 of 25 scores in
)
# their 95 % range; with 0.2, 22; with 0.12, as far as the slopes over epochs in the table differ, 20.
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
    epochs: float
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
    """Logarithms, centred on a middling task, and two products in which networks and lengths of training differ.

    More products make worse choices for a data set that is left out (`bench leave_one_out`).
    """
    n, k, s = np.log2(row.images / 4000), np.log2(row.classes / 10), np.log2(row.size / 32)
    if row.published:  # one network, whose epochs may be none
        s, e = s - 2, np.log2((1 + row.epochs) / 4)
        return [n, k, s, e]
    p, e = np.log2(row.parameters / 1e6), np.log2(row.epochs / 12)
    return [n, k, s, p, e, e * e, p * e, e * n]


class Curves:
    """The model over measured rows and, of a task that pilots were trained on, over these."""

    def __init__(self, rows: Sequence[Row], pilots: Sequence[Row] = ()) -> None:
        self.rows, self.pilots = list(rows), list(pilots)
        self._models: dict[bool, tuple[BayesianRidge, int, float]] = {}

    def and_pilots(self, pilots: Sequence[Row]) -> Curves:
        """These, and the rows of pilots on the task that is to be forecast."""
        return Curves(self.rows, pilots)

    def _model(self, published: bool) -> tuple[BayesianRidge, int, float]:
        """The regression over rows of one kind, the number of data sets with a level in it, and how these differ."""
        if published not in self._models:
            from sklearn.linear_model import BayesianRidge

            rows = [row for row in self.rows if row.published == published]
            datasets = sorted({row.dataset for row in rows})
            levels = [[float(row.dataset == name) for name in datasets] for row in rows]
            features = np.array([[*_features(row), *own] for row, own in zip(rows, levels, strict=True)])
            model = BayesianRidge().fit(features, np.array([_logit(row.error, row.holdout) for row in rows]))
            own_levels = model.coef_[-len(datasets) :]
            self._models[published] = model, len(datasets), max(LEAST_SPREAD, float(np.std(own_levels)))
        return self._models[published]

    def forecast(self, task: Task, parameters: int, epochs: float, size: int, published: bool = False) -> Forecast:
        """The score of a network of that many parameters after that many epochs at a size in pixels.

        Without a pilot the range is as wide as data sets differ. A pilot of the same kind says how hard the task is:
        its logit and the one that is asked for are jointly normal, sharing the task's level and what the regression
        does not know of such tasks, and the second is conditioned on the first. What has as many epochs, pixels and
        parameters as the pilot, or more, is not expected to do worse.
        """
        model, datasets, spread = self._model(published)
        asked = Row("", task.images, task.classes, size, task.channels, parameters, epochs, 1, 0.5, published)
        pilots = [pilot for pilot in self.pilots if pilot.published == published][:1]
        features = np.array([[*_features(row), *[0.0] * datasets] for row in (asked, *pilots)])
        means = model.predict(features)
        covariance = features @ model.sigma_ @ features.T + spread**2 + np.eye(len(features)) / model.alpha_
        doublings = np.log2([[(1 + row.epochs) / 4, row.images / 4000] for row in (asked, *pilots)])
        covariance += SLOPE_SPREAD**2 * doublings @ doublings.T
        mean, variance = float(means[0]), float(covariance[0, 0])
        for pilot in pilots:
            share = min(max(pilot.error, 0.5 / pilot.holdout), 1 - 0.5 / pilot.holdout)
            total = covariance[1, 1] + 1 / (pilot.holdout * share * (1 - share))
            reached = _logit(pilot.error, pilot.holdout)
            mean += covariance[0, 1] / total * (reached - means[1])
            variance -= covariance[0, 1] ** 2 / total
            if size >= pilot.size and epochs >= pilot.epochs and parameters >= pilot.parameters:
                mean = min(mean, reached)  # with more of everything it is not worse than the pilot
        ends: NDArray[np.float64] = 1 / (1 + np.exp(-(mean + np.array([0.0, 1.96, -1.96]) * np.sqrt(variance))))
        return Forecast(*(float(1 - end) for end in ends))


def _logit(error: float, count: int) -> float:
    """The logit of an error of `count` images; one of none is taken for half an image."""
    bounded = min(max(error, 0.5 / count), 1 - 0.5 / count)
    return float(np.log(bounded / (1 - bounded)))
