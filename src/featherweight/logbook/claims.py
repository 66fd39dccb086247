"""The claims of the logbook, as pairs of rows that differ only in what is claimed, and their tests
over several seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from featherweight.evaluation.metrics import Score, metric_by_name
from featherweight.runs.paired_tests import ALPHA, holm


class Claim(NamedTuple):
    """The write-up says that `better` did better than `worse`, with these figures."""

    text: str
    better: str
    worse: str
    figures: str


UNSAID = "no figures"
CLAIMS: dict[str, tuple[Claim, ...]] = {
    "A": (
        Claim("dropout 0.5 over 0.2", "a13", "a12", "Kaggle 0.96450, 0.96150"),
        Claim("drop connect 0.5 over 0.2", "a15", "a17", "Kaggle 0.98500, 0.95700"),
        Claim("SGD over NAdam", "a15", "a15_nadam", "Kaggle 0.98500, 0.97250 (A14, which differs in more)"),
        Claim("test images through the training transforms", "a12", "a11", "Kaggle 0.96150 both"),
    ),
    "B": (
        Claim("20 layers: shortcuts over none", "b_resnet20", "b_plain20", UNSAID),
        Claim("32 layers: shortcuts over none", "b_resnet32", "b_plain32", UNSAID),
        Claim("44 layers: shortcuts over none", "b_resnet44", "b_plain44", UNSAID),
        Claim("56 layers: shortcuts over none", "b_resnet56", "b_plain56", UNSAID),
        Claim("34 layers, by SGD: shortcuts over none", "b_resnet34_sgd", "b_plain34_sgd", UNSAID),
        Claim("34 layers, by Adam: shortcuts over none", "b_resnet34_adam", "b_plain34_adam", UNSAID),
        Claim("50 layers, by SGD: shortcuts over none", "b_resnet50_sgd", "b_plain50_sgd", UNSAID),
        Claim("50 layers, by Adam: shortcuts over none", "b_resnet50_adam", "b_plain50_adam", UNSAID),
    ),
    "C": (
        Claim("focal loss over cross-entropy", "c_focal", "c_fixed", UNSAID),
        Claim("classes sampled alike over as they are", "c_weighted", "c_fixed", UNSAID),
        Claim("small classes up to 7x over as they are", "c_over7", "c_augment", UNSAID),
        Claim("up to 12x over up to 7x", "c_over12", "c_over7", UNSAID),
        Claim("large classes cut to 80 % over whole, small ones 7x", "c_cut80_over7", "c_over7", UNSAID),
        Claim("large classes cut to 60 % over 80 %, small ones 7x", "c_cut60_over7", "c_cut80_over7", UNSAID),
    ),
    "D": (
        Claim("Adam over SGD with momentum", "d_adam", "d_momentum", "CIFAR-10 0.696, 0.648"),
        Claim("SGD with momentum over RMSprop", "d_momentum", "d_rmsprop", "CIFAR-10 0.648, 0.522"),
        Claim("RMSprop over Adagrad", "d_rmsprop", "d_adagrad", "CIFAR-10 0.522, 0.495"),
        Claim("Adagrad over SGD", "d_adagrad", "d_sgd", "CIFAR-10 0.495, 0.404"),
        Claim("stopping early over all epochs, at 0.001", "d_lr3", "d_momentum", UNSAID),
    ),
}


@dataclass(frozen=True)
class Verdict:
    """The test of a claim.

    Attributes:
        gains: the gain of each seed. The same seed has the same split and, in both rows, the same order of images.
        low, high: the ends of the 95 % interval of the mean gain.
        p: p-value of a paired t-test, corrected for all claims tested together (Holm 1979); NaN for a single seed.
    """

    claim: Claim
    gains: tuple[float, ...]
    low: float
    high: float
    p: float
    metric: str

    @property
    def word(self) -> str:
        """The outcome in a few words."""
        if not any(self.gains):
            return "no difference"
        if not self.p < ALPHA:
            return "not significant"
        return "holds" if np.mean(self.gains) > 0 else "does not hold: the other way round"

    @property
    def gain(self) -> str:
        """The mean gain and its interval as text."""
        metric = metric_by_name(self.metric)
        scale = metric.scale
        mean = f"{np.mean(self.gains) * scale:+.2f} {metric.unit}"
        if math.isnan(self.p):
            return mean
        return f"{mean} [{self.low * scale:+.2f}, {self.high * scale:+.2f}], p = {self.p:.2g}"


def judge(tested: Mapping[Claim, tuple[Sequence[Score], Sequence[Score]]]) -> list[Verdict]:
    """Test claims by the scores of their two rows, which have the same seeds in the same order."""
    alone = [_alone(claim, *scores) for claim, scores in tested.items()]
    corrected = holm([verdict.p for verdict in alone])
    return [replace(verdict, p=p) for verdict, p in zip(alone, corrected, strict=True)]


def _alone(claim: Claim, better: Sequence[Score], worse: Sequence[Score]) -> Verdict:
    """Test one claim, without correction of the p-value."""
    from scipy.stats import ttest_1samp

    metric = better[0].of
    gains = np.array([metric.sign * (one.value - other.value) for one, other in zip(better, worse, strict=True)])
    low = high = p = math.nan
    if len(gains) > 1 and gains.std() > 0:
        test = ttest_1samp(gains, 0.0)
        low, high = map(float, test.confidence_interval(0.95))
        p = float(test.pvalue)
    elif len(gains) > 1:  # all gains are equal, so their variance is unknown
        low = high = float(gains[0])
        p = 1.0 if low == 0 else math.nan
    return Verdict(claim, tuple(gains.tolist()), low, high, p, metric.name)
