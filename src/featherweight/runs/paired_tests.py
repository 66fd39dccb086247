"""Is one better than the other? Paired tests on the same images, and tests over seeds where there are several.

A single run against another says how these very weights differ on these kinds of images. That one *recipe* is better
than another only several seeds of both can say, since two seeds of one recipe differ as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.evaluation.metrics import Groups, Metric, grouped, metric_of, named, plain, resampled, spoken, value
from featherweight.schema import Choice

REPLICATES = 1000  # of the bootstrap at least; of many comparisons, enough to tell each
SURE = 0.05  # a p-value below it counts as told


@dataclass(frozen=True)
class Answers:
    """What a run answered on its holdout: probabilities float32 [N, K], at its temperature, and true classes [N] or
    sets [N, K]; `decided`, if it is not the plain answer; `kin` [N], images of one number being related.
    """

    name: str
    probs: NDArray[np.float32]
    labels: NDArray[Any]
    decided: NDArray[Any] | None = None
    kin: Groups | None = None

    @property
    def several(self) -> bool:
        """Does each image have a set of classes?"""
        return self.labels.ndim == 2

    @property
    def right(self) -> NDArray[np.bool_]:
        """[N]: is the class, or the whole set, right?"""
        answers = plain(self.probs, self.several) if self.decided is None else self.decided
        right: NDArray[np.bool_] = answers == self.labels
        return np.all(right, axis=1) if self.several else right

    def hits(self, metric: Choice) -> NDArray[np.bool_]:
        """[N]: is the image right, as a metric counts that; by any other metric, is the class, or the whole set?"""
        hits = metric_of(metric).hits(self.judged_by(metric), self.labels, **metric.arguments)
        return self.right if hits is None else hits

    def judged_by(self, metric: Choice) -> NDArray[Any]:
        """What a metric judges of it: what was decided, or the probabilities float64."""
        if metric_of(metric).judges == "answers" and self.decided is not None:
            return self.decided
        return self.probs.astype(np.float64)


@dataclass(frozen=True)
class Paired:
    """How much better `one` is than `other` by a metric on the same images (a lower loss is better), with the 95 %
    interval and the p-value of a paired bootstrap, and the p-value of McNemar's exact test of what they get right.

    McNemar's test decides, together with the interval, by metrics that count images, of what these count. Beside a
    verdict by any other metric, which the bootstrap decides, it judges accuracies.
    """

    one: str
    other: str
    metric: str
    gain: float
    low: float
    high: float
    p: float
    mcnemar: float
    among: int = 1  # comparisons made at once, the p-value being held against the limit divided by them (Bonferroni)
    several: bool = False  # does each image have a set of classes?

    @property
    def of(self) -> Metric:
        """The metric."""
        return named(self.metric)

    @property
    def counts(self) -> bool:
        """Is it of the part of the images that are right, which McNemar's test judges?"""
        return self.of.counts and not self.several

    @property
    def significant(self) -> bool:
        """Is there a difference?"""
        p = self.mcnemar if self.counts else self.p
        return p < SURE / self.among and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        scale = self.of.scale
        span = f"{abs(self.gain) * scale:.2f} {self.of.unit} of {spoken(self.metric)}"
        interval = f"95 % interval {self.low * scale:+.2f} to {self.high * scale:+.2f}"
        if self.counts:
            tests = f"({interval}, McNemar p = {self.mcnemar:.3g})"
        else:
            apart = "differ" if self.mcnemar < SURE / self.among else "cannot be told apart"
            tests = f"({interval}, paired bootstrap p = {self.p:.3g}); their accuracies {apart}"
            tests += f" (McNemar p = {self.mcnemar:.3g})"
        if not self.significant:
            return f"it cannot be told which of {self.one} and {self.other} is better: {span} apart {tests}"
        better, worse = (self.one, self.other) if self.gain > 0 else (self.other, self.one)
        return f"{better} is better than {worse} on these images: by {span} {tests}"


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_], kin: Groups | None = None) -> float:
    """The exact two-sided p-value that two classifiers are as often right, from the images only one of them gets; of
    related images, from the groups of which one of them gets more.
    """
    from scipy.stats import binomtest

    ahead = one.astype(np.int64) - other
    group = grouped(kin)
    if group is not None:
        ahead = np.bincount(group, ahead)
    alone, without = int((ahead > 0).sum()), int((ahead < 0).sum())
    return float(binomtest(alone, alone + without).pvalue) if alone + without else 1.0


def paired(one: Answers, other: Answers, metric: Choice, among: int = 1) -> Paired:
    """Compare two runs image by image, one of `among` comparisons. The bootstrap draws the same images for both."""
    sign = metric_of(metric).sign
    inputs = [each.judged_by(metric) for each in (one, other)]
    replicates = max(REPLICATES, 100 * among)  # the least p is then under half of what is wanted of it
    first, second = resampled(metric, inputs, one.labels, replicates, one.kin)
    drawn = sign * (first - second)
    low, high = np.quantile(drawn, [0.025, 0.975])
    p = min(1.0, 2 * (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + replicates))
    gain = sign * (value(metric, inputs[0], one.labels) - value(metric, inputs[1], one.labels))
    alone = mcnemar(one.hits(metric), other.hits(metric), one.kin)
    return Paired(one.name, other.name, metric.name, gain, float(low), float(high), float(p), alone, among, one.several)


def over_seeds(metric: str, scores: Mapping[str, Sequence[float]]) -> list[str]:
    """In words, for every two recipes whether one is better, by Welch's t-test over the scores of their seeds.

    The p-values of all pairs are corrected together (Holm 1979).
    """
    from scipy.stats import ttest_ind

    def p_value(one: Sequence[float], other: Sequence[float]) -> float:
        """1 where no score differs from another of its recipe: then nothing says by how much seeds differ."""
        varies = np.var(one) + np.var(other) > 0
        return float(ttest_ind(one, other, equal_var=False).pvalue) if varies else 1.0

    pairs = list(itertools.combinations(scores, 2))
    ps = holm([p_value(scores[one], scores[other]) for one, other in pairs])
    return [
        _in_words(metric, one, scores[one], other, scores[other], p) for (one, other), p in zip(pairs, ps, strict=True)
    ]


def _in_words(
    metric: str, name: str, scores: Sequence[float], other_name: str, others: Sequence[float], p: float
) -> str:
    of = named(metric)
    one, other = (
        f"{np.mean(part) * of.scale:.2f} ± {np.std(part, ddof=1) * of.scale:.2f} over {len(part)} seeds"
        for part in (scores, others)
    )
    significant = f"{spoken(metric)} {one} against {other}, p = {p:.3g}"
    if not p < SURE:
        return f"it cannot be told which of the recipes {name} and {other_name} is better: {significant}"
    ahead = of.better(float(np.mean(scores)), float(np.mean(others)))
    better, worse = (name, other_name) if ahead else (other_name, name)
    return f"the recipe {better} is better than {worse}: {significant}"


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of several tests, enlarged so that a false find among all of them is as rare as by one test."""
    order = np.argsort(ps)
    enlarged = np.maximum.accumulate(np.asarray(ps)[order] * np.arange(len(ps), 0, -1)).clip(max=1)
    return [float(enlarged[place]) for place in np.argsort(order)]
