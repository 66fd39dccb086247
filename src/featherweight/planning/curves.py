"""What a network reaches in some epochs on a task, from a table of learning curves that were measured.

`curves.csv` holds a row per training: the task in numbers, the network's parameters, the epochs, and the error on
images that were held out. `./run.sh bench curves` measures it. The model is linear with normal priors (Gelman et al.,
Bayesian Data Analysis, chapters 14 and 15), one for networks that start from random weights and one for published ones:
the logit of the error is a sum of effects that all data sets share and of three that each has for itself (by each
optimizer), since data sets differ in how hard they are, in what longer training gains and in what more images gain. The
priors say which way an effect goes, so that a few rows cannot turn it: more images, epochs, pixels and parameters do no
harm. What longer training gains falls as 1 / epochs, so that nothing is promised far beyond the measured lengths.
Pilots on the task are rows like the others, and tell its own effects.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.intervals import NORMAL
from featherweight.planning.dataset_facts import DatasetFacts

TABLE = Path(__file__).with_name("curves.csv")
PUBLISHED = ("lite0", "lite0_bold")  # networks of the table that start from published weights
NUMBERS = ("images", "classes", "size", "channels", "parameters", "epochs", "holdout")
NOISE = 0.2  # of a training, in logits: another seed, and what the effects leave; beside the chance of a small holdout

# Effects on the logit of the error, with mean and standard deviation before any row is seen: of a doubling of images,
# classes, pixels of a side and parameters, and of how unfinished a training is.
FROM_SCRATCH = {
    "level": (-1.0, 1.5),
    "images": (-0.3, 0.15),
    "classes": (0.3, 0.3),
    "size": (-0.3, 0.2),
    "parameters": (-0.15, 0.1),
    "unfinished": (0.5, 0.2),
    "unfinished, by parameters": (-0.03, 0.03),  # larger networks learn more in an epoch
}
FROM_PUBLISHED = {
    "level": (-1.5, 1.5),
    "images": (-0.3, 0.15),
    "classes": (0.3, 0.3),
    "size": (-0.6, 0.3),
    "parameters": (-0.15, 0.1),
    "unfinished": (1.3, 0.5),
}
OWN = ("level", "images", "unfinished")  # effects that a data set has for itself as well
OWN_SPREAD = {False: (1.2, 0.1, 0.2), True: (1.2, 0.1, 0.5)}  # their standard deviations, by published


@dataclass(frozen=True)
class MeasuredTraining:
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
    optimizer: str = ""

    @property
    def group(self) -> tuple[str, str]:
        """Rows that share what a data set has for itself: of one set, learned by one optimizer."""
        return self.dataset, self.optimizer


@dataclass(frozen=True)
class ScoreForecast:
    """A score to be expected (a fraction) and the ends of its 95 % range."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.0%} to {self.high:.0%})"


def table(path: Path = TABLE) -> list[MeasuredTraining]:
    """The measured rows."""
    with path.open(newline="") as file:
        return [
            MeasuredTraining(
                row["dataset"],
                **{key: int(row[key]) for key in NUMBERS},
                error=float(row["error"]),
                published=row["network"] in PUBLISHED,
                optimizer=row["optimizer"],
            )
            for row in csv.DictReader(file)
        ]


class Curves:
    """The model over measured rows and, of a task that pilots were trained on, over these."""

    def __init__(self, rows: Sequence[MeasuredTraining], pilots: Sequence[MeasuredTraining] = ()) -> None:
        self.rows, self.pilots = list(rows), list(pilots)

    def and_pilots(self, pilots: Sequence[MeasuredTraining]) -> Curves:
        """These, and the rows of pilots on the task that is to be forecast."""
        return Curves(self.rows, pilots)

    def forecast(
        self, facts: DatasetFacts, parameters: int, epochs: float, size: int, published: bool = False
    ) -> ScoreForecast:
        """The score of a network of that many parameters after that many epochs at a size in pixels.

        Without a pilot of its kind the range is as wide as data sets differ.
        """
        asked = MeasuredTraining(
            "", facts.images, facts.classes, size, facts.channels, parameters, epochs, 1, 0.5, published
        )
        known = [row for row in self.rows if row.published == published]
        known += [replace(pilot, dataset="", optimizer="") for pilot in self.pilots if pilot.published == published]
        groups = sorted({row.group for row in (*known, asked)})
        design = np.array([_design(row, groups) for row in (*known, asked)])
        priors = FROM_PUBLISHED if published else FROM_SCRATCH
        prior, spread = np.array([*priors.values(), *((0.0, own) for _ in groups for own in OWN_SPREAD[published])]).T
        # The posterior of a linear model with known noise, given the rows: Gelman et al., section 14.2.
        among, of_asked = (design[:-1] * spread**2) @ design.T, design[-1] * spread
        noise = np.diag([NOISE**2 + _chance(row) for row in known])
        gain = np.linalg.solve(among[:, :-1] + noise, among[:, -1])
        mean = design[-1] @ prior + gain @ (_logits(known) - design[:-1] @ prior)
        variance = of_asked @ of_asked - gain @ among[:, -1] + NOISE**2
        ends: NDArray[np.float64] = 1 / (1 + np.exp(-(mean + np.array([0.0, NORMAL, -NORMAL]) * np.sqrt(variance))))
        return ScoreForecast(*(float(1 - end) for end in ends))


def _design(row: MeasuredTraining, groups: Sequence[tuple[str, str]]) -> list[float]:
    """What the effects of a row are multiplied with: nearly zero for a middling task."""
    parameters = float(np.log2(row.parameters / 1e6))
    unfinished = 1 / (1 + row.epochs) if row.published else 12 / (0.5 + row.epochs)
    shared = {
        "level": 1.0,
        "images": float(np.log2(row.images / 4000)),
        "classes": float(np.log2(row.classes / 10)),
        "size": float(np.log2(row.size / (128 if row.published else 32))),
        "parameters": parameters,
        "unfinished": unfinished,
    }
    if not row.published:
        shared["unfinished, by parameters"] = parameters * unfinished
    return [*shared.values(), *(shared[name] * (row.group == group) for group in groups for name in OWN)]


def _logits(rows: Sequence[MeasuredTraining]) -> NDArray[np.float64]:
    """Of the rows' errors; an error of none is taken for half an image."""
    errors = np.array([_bounded(row) for row in rows])
    logits: NDArray[np.float64] = np.log(errors / (1 - errors))
    return logits


def _chance(row: MeasuredTraining) -> float:
    """The variance of the logit that comes from the number of images that were held out."""
    error = _bounded(row)
    return 1 / (row.holdout * error * (1 - error))


def _bounded(row: MeasuredTraining) -> float:
    return min(max(row.error, 0.5 / row.holdout), 1 - 0.5 / row.holdout)
