"""What a run's time is spent on, and how many epochs are left for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from featherweight.console import duration
from featherweight.evaluation import unlabelled
from featherweight.planning.dataset_facts import DatasetFacts
from featherweight.runs import predictions

FEW_EPOCHS = 10  # if fewer fit, the last one may be cut
REST_SECONDS = 12.0  # for the start, the CSV and the report


@dataclass(frozen=True)
class Timeline:
    """The seconds of a run, by purpose; `predicting` is what the network sees after its training (`passes_after`)."""

    packing: float
    training: float
    predicting: float
    rest: float = REST_SECONDS

    @property
    def total(self) -> float:
        """The sum, in seconds."""
        return self.packing + self.training + self.predicting + self.rest

    def __str__(self) -> str:
        parts = {
            "packing": self.packing,
            "training": self.training,
            "predictions": self.predicting,
            "the rest": self.rest,
        }
        return ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds >= 0.5)


def passes_after(facts: DatasetFacts, views: int) -> int:
    """Return how many images the network sees after its training: in `views` test-time views those that are held out or
    predicted, and once those that a shift is looked for in, those of the report, and a sample of the training images.
    """
    shift = facts.holdout + min(facts.predict, unlabelled.MOST_IMAGES) if facts.predict else 0
    sample = min(facts.images, predictions.LEARNED_SAMPLE)
    return views * (facts.holdout + facts.predict) + shift + facts.holdout + sample


def epochs_within(seconds: float, epoch: float, steps: int, evaluation: float) -> float:
    """Return how many epochs, of `epoch` seconds and `steps` steps each, fit into `seconds`; below 0 if none does.

    If fewer than FEW_EPOCHS fit, the last one may be cut after any step. Each epoch, cut or whole, is followed by an
    evaluation of `evaluation` seconds, but there are at most ten (see `Candidate.settings`).
    """
    whole = math.floor((seconds - FEW_EPOCHS * evaluation) / epoch)
    if whole >= FEW_EPOCHS:
        return float(whole)
    fitting = (
        (begun, math.floor((seconds - begun * evaluation) / epoch * steps) / steps)
        for begun in range(1, FEW_EPOCHS + 1)
    )
    return max(min(begun, epochs) for begun, epochs in fitting)
