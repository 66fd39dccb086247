"""Wrong labels, estimated from a classifier that was not trained on them.

Model: labels are drawn from the temperature-scaled predictions with probability 1 - eps, and uniformly otherwise
(symmetric noise; Natarajan et al. 2013). Errors of a classifier are between similar classes, wrong labels between any.
Temperature and eps are fitted to held-out images by maximum likelihood. Confident learning (Northcutt et al. 2021),
which counts confident disagreements, takes the errors of a weak classifier for wrong labels: see `bench coverage
--cells`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_IMAGES = 100
MAX_FITTED = 5000  # images that temperature and noise rate are fitted to
SHARPNESSES = np.geomspace(0.25, 8, 51)  # inverse temperatures
NOISE_RATES = np.concatenate([[0], np.geomspace(0.002, 0.9, 150)])  # shares of labels drawn uniformly
CHI2_95 = 3.84  # twice the log-likelihood ratio at the ends of a 95 % interval
MIN_SHARE = 0.01  # of wrong labels that is reported


@dataclass(frozen=True)
class LabelNoise:
    """The share of wrong labels, the ends of its 95 % interval, and the probability of each label being wrong, float64
    [N].
    """

    share: float
    low: float
    high: float
    probability: NDArray[np.float64]

    @property
    def is_seen(self) -> bool:
        """True if the share is significant and large enough to report."""
        return self.low > 0 and self.share >= MIN_SHARE

    @property
    def suspects(self) -> NDArray[np.int64]:
        """The indices int64 of labels that are more probably wrong than right, the most probable first."""
        order = np.argsort(-self.probability, kind="stable")
        probable: NDArray[np.int64] = order[self.probability[order] > 0.5]
        return probable


def label_noise(probs: NDArray[np.floating], labels: NDArray[np.int64]) -> LabelNoise:
    """Return the label noise of held-out images with probabilities [N, K] and labels int64 [N]; none for fewer than
    MIN_IMAGES.
    """
    count, classes = probs.shape
    if count < MIN_IMAGES:
        return LabelNoise(0.0, 0.0, 1.0, np.zeros(count))
    logs = np.log(probs.astype(np.float64).clip(1e-12))
    some = np.random.default_rng(0).permutation(count)[:MAX_FITTED]
    by_temperature = np.stack([_of_label(logs[some], labels[some], factor) for factor in SHARPNESSES])
    likelihood = np.stack([np.log((1 - part) * by_temperature + part / classes).sum(1) for part in NOISE_RATES], 1)
    profile = likelihood.max(0)
    best = int(profile.argmax())
    inside = NOISE_RATES[2 * (profile[best] - profile) <= CHI2_95]
    factor, part = float(SHARPNESSES[likelihood[:, best].argmax()]), float(NOISE_RATES[best])
    wrong = (classes - 1) / classes  # of uniformly drawn labels, 1 in `classes` is right
    anywhere = part / classes
    of_label = _of_label(logs, labels, factor)
    probability = np.where(probs.argmax(1) == labels, 0.0, anywhere / ((1 - part) * of_label + anywhere + 1e-300))
    return LabelNoise(part * wrong, float(inside[0]) * wrong, float(inside[-1]) * wrong, probability)


def _of_label(logs: NDArray[np.float64], labels: NDArray[np.int64], factor: float) -> NDArray[np.float64]:
    """Return each label's probability, float64 [N], if log probabilities [N, K] are multiplied by `factor`."""
    raised = np.exp(factor * (logs - logs.max(1, keepdims=True)))
    of_label: NDArray[np.float64] = raised[np.arange(len(labels)), labels] / raised.sum(1)
    return of_label
