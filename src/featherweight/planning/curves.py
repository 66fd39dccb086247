"""Forecast the score of a network after some epochs, from a table of measured learning curves.

`curves.csv` has a row per training: numbers about the data, the network's parameters, the epochs, and the error on
held-out images. `./run.sh bench curves` measures it. The model is linear with normal priors (Gelman et al., Bayesian
Data Analysis, chapters 14 and 15); one model is for networks that start from random weights, one for pretrained ones.
The logit of the error is a sum of effects that all data sets share and of three effects that each data set has of its
own: data sets differ in difficulty, in the gain of longer training and in the gain of more images. The priors fix the
sign of each effect, so that a few rows cannot reverse it: more images, epochs, pixels and parameters do no harm. What
is left to gain by longer training falls as 1 / epochs, of pretrained networks as 1 / epochs ** 2, so that forecasts far
beyond the measured lengths stay moderate. From random weights, which here are always those of fast nets that Muon
trains, an epoch of many images, which has more steps, is worth several of few, and a part of an epoch is a whole one of
fewer images. Pilots on the data at hand are rows like the others and determine its own effects.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from featherweight.evaluation.intervals import NORMAL
from featherweight.planning.dataset_facts import DatasetFacts

TABLE = Path(__file__).with_name("curves.csv")
PUBLISHED = ("lite0", "lite0_bold")  # networks in the table that start from pretrained weights
NUMBERS = ("images", "classes", "size", "side", "channels", "parameters", "epochs", "holdout")
# An epoch of N images is worth (N / MEDIUM_IMAGES) ** EPOCH_EXPONENT epochs of MEDIUM_IMAGES: at 0
# only epochs would count, at 1 only steps. `./run.sh bench leave_one_out` misses least at 0.5, and with these priors.
MEDIUM_IMAGES, EPOCH_EXPONENT = 4000, 0.5
TUNED_EPOCHS = 1.5  # of fine-tuning, which gain half: the first epoch gains less than the second
# Standard deviation of a training in logits: seeds and what the model misses, without sampling error. True: pretrained.
NOISE = {False: 0.12, True: 0.2}

# Prior mean and standard deviation of the effects on the logit of the error: of doubling the images, the classes, the
# side in pixels that the network sees and the parameters, and of an unfinished training.
FROM_SCRATCH = {
    "level": (-1.5, 1.5),
    "images": (-0.3, 0.15),
    "classes": (0.3, 0.3),
    "size": (-0.3, 0.2),
    "parameters": (-0.1, 0.08),
    "unfinished": (0.2, 0.1),
    "unfinished, by parameters": (-0.01, 0.02),  # larger networks learn more per epoch
}
FROM_PUBLISHED = {
    "level": (-1.5, 1.5),
    "images": (-0.22, 0.1),
    "classes": (0.3, 0.3),
    "size": (-0.3, 0.15),
    "parameters": (-0.15, 0.1),
    "unfinished": (1.4, 0.5),
    "detail": (-0.8, 0.5),  # pixels that are not made by enlarging smaller pictures
}
OWN = ("level", "images", "unfinished")  # effects that a data set has of its own, too
OWN_SPREAD = {False: (1.2, 0.1, 0.08), True: (1.2, 0.1, 0.5)}  # their standard deviations; True: pretrained


@dataclass(frozen=True)
class MeasuredTraining:
    """A training that was measured. `error` is a fraction of `holdout` images; 0 epochs are a linear probe. `side` is
    that of the original pictures in pixels (0: at least `size`, to which they are reduced).
    """

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
    side: int = 0


@dataclass(frozen=True)
class ScoreForecast:
    """An expected score (a fraction) and the ends of its 95 % range."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.0%} to {self.high:.0%})"

    def raised(self, logits: float) -> ScoreForecast:
        """Return the forecast with so many logits more."""
        return ScoreForecast(*(float(expit(logit(score) + logits)) for score in (self.value, self.low, self.high)))


def table(path: Path = TABLE) -> list[MeasuredTraining]:
    """Return the measured rows."""
    with path.open(newline="") as file:
        return [
            MeasuredTraining(
                row["dataset"],
                **{key: int(row[key]) for key in NUMBERS},
                error=float(row["error"]),
                published=row["network"] in PUBLISHED,
            )
            for row in csv.DictReader(file)
        ]


class Curves:
    """The model, fitted to measured rows and to pilots on the data at hand."""

    def __init__(self, rows: Sequence[MeasuredTraining], pilots: Sequence[MeasuredTraining] = ()) -> None:
        self.rows, self.pilots = list(rows), list(pilots)

    def and_pilots(self, pilots: Sequence[MeasuredTraining]) -> Curves:
        """Return the same model with pilots on the data that is to be forecast."""
        return Curves(self.rows, pilots)

    def forecast(
        self, facts: DatasetFacts, parameters: int, epochs: float, size: int, published: bool = False
    ) -> ScoreForecast:
        """Return the expected score of a network with that many parameters after that many epochs at `size` pixels.

        Without a pilot of its kind the range is as wide as the differences between data sets.
        """
        asked = MeasuredTraining(
            "", facts.images, facts.classes, size, facts.channels, parameters, epochs, 1, 0.5, published, facts.side
        )
        known = [row for row in self.rows if row.published == published]
        known += [replace(pilot, dataset="") for pilot in self.pilots if pilot.published == published]
        datasets = sorted({row.dataset for row in (*known, asked)})
        design = np.array([_design(row, datasets) for row in (*known, asked)])
        priors = FROM_PUBLISHED if published else FROM_SCRATCH
        prior, spread = np.array([*priors.values(), *((0.0, own) for _ in datasets for own in OWN_SPREAD[published])]).T
        # The posterior of a linear model with known noise, given the rows: Gelman et al., section 14.2.
        among, of_asked = (design[:-1] * spread**2) @ design.T, design[-1] * spread
        noise = np.diag([NOISE[published] ** 2 + _chance(row) for row in known])
        gain = np.linalg.solve(among[:, :-1] + noise, among[:, -1])
        mean = design[-1] @ prior + gain @ (_logits(known) - design[:-1] @ prior)
        variance = of_asked @ of_asked - gain @ among[:, -1] + NOISE[published] ** 2
        ends: NDArray[np.float64] = 1 / (1 + np.exp(-(mean + np.array([0.0, NORMAL, -NORMAL]) * np.sqrt(variance))))
        return ScoreForecast(*(float(1 - end) for end in ends))


def _design(row: MeasuredTraining, datasets: Sequence[str]) -> list[float]:
    """Return the factors of the effects in a row, which are near zero for a medium data set."""
    parameters = float(np.log2(row.parameters / 1e6))
    whole = 1.0 if row.published else min(row.epochs, 1.0)
    images = row.images * whole
    epochs = row.epochs / whole * (images / MEDIUM_IMAGES) ** EPOCH_EXPONENT
    unfinished = 1 / (1 + (epochs / TUNED_EPOCHS) ** 2) if row.published else 12 / (0.5 + epochs)
    shared = {
        "level": 1.0,
        "images": float(np.log2(images / MEDIUM_IMAGES)),
        "classes": float(np.log2(row.classes / 10)),
        "size": float(np.log2(row.size / (128 if row.published else 32))),
        "parameters": parameters,
        "unfinished": unfinished,
    }
    if row.published:
        shared["detail"] = float(np.log2(min(row.size, row.side or row.size) / 128))
    else:
        shared["unfinished, by parameters"] = parameters * unfinished
    return [*shared.values(), *(shared[effect] * (row.dataset == dataset) for dataset in datasets for effect in OWN)]


def _logits(rows: Sequence[MeasuredTraining]) -> NDArray[np.float64]:
    """Return the logits of the rows' errors; an error of 0 counts as half an image."""
    errors = np.array([_bounded(row) for row in rows])
    logits: NDArray[np.float64] = np.log(errors / (1 - errors))
    return logits


def _chance(row: MeasuredTraining) -> float:
    """Return the variance of the logit due to the number of held-out images."""
    error = _bounded(row)
    return 1 / (row.holdout * error * (1 - error))


def _bounded(row: MeasuredTraining) -> float:
    return min(max(row.error, 0.5 / row.holdout), 1 - 0.5 / row.holdout)
