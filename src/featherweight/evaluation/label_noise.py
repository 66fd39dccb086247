"""Wrong labels, told by a classifier that has not seen them.

Errors of a classifier and of its labels differ in one thing: what it takes for another class looks a little like it,
and a wrong label may be any. So labels are taken to come from its probabilities, at a temperature of their own, but a
part of them from all classes alike (symmetric noise; Natarajan et al. 2013). Temperature and part are fitted by
maximum likelihood to held-out images. Confident learning (Northcutt et al. 2021), which counts confident disagreements,
takes the errors of a weak classifier for wrong labels: see `bench coverage --cells`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 100  # images: of fewer nothing is said
MOST = 5000  # images that temperature and part are fitted to
TEMPERATURES = np.geomspace(0.25, 8, 51)  # that log probabilities are multiplied by
PARTS = np.concatenate([[0], np.geomspace(0.002, 0.9, 150)])  # of the labels that come from anywhere
BEYOND = 3.84  # by which twice the log likelihood falls at the ends of a 95 % interval
LEAST = 0.01  # of the labels: less is not worth a line


@dataclass(frozen=True)
class LabelNoise:
    """The part of labels that are wrong, the ends of its 95 % interval, and how probably each label is, float64 [N]."""

    share: float
    low: float
    high: float
    probability: NDArray[np.float64]

    @property
    def is_seen(self) -> bool:
        """Is there more of it than chance and a line are worth?"""
        return self.low > 0 and self.share >= LEAST

    @property
    def suspects(self) -> NDArray[np.int64]:
        """The places of labels that are wrong rather than right, the surest first."""
        order = np.argsort(-self.probability, kind="stable")
        probable: NDArray[np.int64] = order[self.probability[order] > 0.5]
        return probable


def label_noise(probs: NDArray[np.floating], labels: NDArray[np.int64]) -> LabelNoise:
    """Of held-out images with probabilities [N, K] and labels int64 [N]; nothing is seen in fewer than FEWEST."""
    count, classes = probs.shape
    if count < FEWEST:
        return LabelNoise(0.0, 0.0, 1.0, np.zeros(count))
    logs = np.log(probs.astype(np.float64).clip(1e-12))
    some = np.random.default_rng(0).permutation(count)[:MOST]
    by_temperature = np.stack([_of_label(logs[some], labels[some], factor) for factor in TEMPERATURES])
    likelihood = np.stack([np.log((1 - part) * by_temperature + part / classes).sum(1) for part in PARTS], 1)
    profile = likelihood.max(0)
    best = int(profile.argmax())
    inside = PARTS[2 * (profile[best] - profile) <= BEYOND]
    factor, part = float(TEMPERATURES[likelihood[:, best].argmax()]), float(PARTS[best])
    wrong = (classes - 1) / classes  # of labels that come from anywhere, some are right
    anywhere = part / classes
    mine = _of_label(logs, labels, factor)
    probability = np.where(probs.argmax(1) == labels, 0.0, anywhere / ((1 - part) * mine + anywhere + 1e-300))
    return LabelNoise(part * wrong, float(inside[0]) * wrong, float(inside[-1]) * wrong, probability)


def _of_label(logs: NDArray[np.float64], labels: NDArray[np.int64], factor: float) -> NDArray[np.float64]:
    """float64 [N]: the probability of each image's label, where log probabilities [N, K] are multiplied by a factor."""
    raised = np.exp(factor * (logs - logs.max(1, keepdims=True)))
    mine: NDArray[np.float64] = raised[np.arange(len(labels)), labels] / raised.sum(1)
    return mine
